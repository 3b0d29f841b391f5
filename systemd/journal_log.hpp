// SPDX-License-Identifier: LGPL-2.1-or-later
// The Log port on the journal, with fields; what the journal does not take goes to another log.
#pragma once

#include "virtbus/ports.hpp"

namespace virtbus::systemd {

class JournalLog final : public Log {
public:
    /// `otherwise` takes every line when standard error is not connected to the journal.
    JournalLog(Log& otherwise, Priority most = Priority::info);
    void write(Priority priority, std::string_view message, const Fields& fields) override;
    bool connected() const noexcept { return connected_; }

private:
    Log& otherwise_;
    Priority most_;
    bool connected_;
};

}  // namespace virtbus::systemd
