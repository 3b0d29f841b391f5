// SPDX-License-Identifier: LGPL-2.1-or-later
// The Log port on standard error, with systemd's priority prefix when a journal reads it. The journal itself is
// systemd/'s work.
#pragma once

#include "virtbus/ports.hpp"

namespace virtbus::host {

class StderrLog final : public Log {
public:
    explicit StderrLog(Priority most = Priority::info);
    void write(Priority priority, std::string_view message, const Fields& fields) override;

private:
    Priority most_;
    bool prefixed_;
};

}  // namespace virtbus::host
