// SPDX-License-Identifier: LGPL-2.1-or-later
// Notify: tells the service manager how the daemon is, and feeds its watchdog from the loop. Without a manager that
// listens nothing happens. When what is said is main's decision.
#pragma once

#include <string>

#include "virtbus/loop.hpp"

namespace virtbus::systemd {

class Notify {
public:
    explicit Notify(Loop& loop) : loop_{loop} {}

    /// Loaded, and on the bus. From now on the watchdog is fed.
    void ready();
    /// Leaving. The watchdog is fed on, as draining takes time too.
    void stopping();
    /// One line for "systemctl status".
    void status(const std::string& text);

private:
    void feed();

    Loop& loop_;
    Duration interval_{0};
    Registration timer_;
};

}  // namespace virtbus::systemd
