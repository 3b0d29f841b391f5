// SPDX-License-Identifier: LGPL-2.1-or-later
// EchoConsole: one end of a stream that greets and says back what it is told.
#pragma once

#include <string>

#include "virtbus/fd.hpp"
#include "virtbus/loop.hpp"

namespace virtbus::test_driver {

class EchoConsole {
public:
    explicit EchoConsole(Loop& loop) : loop_{loop} {}
    EchoConsole(const EchoConsole&) = delete;
    EchoConsole& operator=(const EchoConsole&) = delete;

    /// The caller's end.
    Fd connect(const std::string& banner);
    /// False once the other side has closed.
    bool open() const { return static_cast<bool>(fd_); }

private:
    void ready(unsigned readiness);

    Loop& loop_;
    Fd fd_;
    Registration watch_;
};

}  // namespace virtbus::test_driver
