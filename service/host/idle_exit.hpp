// SPDX-License-Identifier: LGPL-2.1-or-later
// IdleExit: ends a daemon that something else will start again when it is wanted. Knows only how long nothing has been
// the case; what "nothing" is, its owner says.
#pragma once

#include <functional>

#include "virtbus/loop.hpp"

namespace virtbus::host {

class IdleExit {
public:
    /// Calls `leave` once `idle` has been true at every look for the whole wait. A wait of 0 never leaves.
    IdleExit(Loop& loop, Duration wait, std::function<bool()> idle, std::function<void()> leave);

private:
    static constexpr int looks = 6;
    void look();

    Loop& loop_;
    Duration pause_;
    std::function<bool()> idle_;
    std::function<void()> leave_;
    int quiet_looks_ = 0;
    Registration timer_;
};

}  // namespace virtbus::host
