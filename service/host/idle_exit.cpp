// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host/idle_exit.hpp"

namespace virtbus::host {

IdleExit::IdleExit(Loop& loop, Duration wait, std::function<bool()> idle, std::function<void()> leave)
    : loop_{loop}, pause_{wait / looks}, idle_{std::move(idle)}, leave_{std::move(leave)} {
    if (wait.count() > 0) timer_ = loop_.after(pause_, [this] { look(); });
}

void IdleExit::look() {
    quiet_looks_ = idle_() ? quiet_looks_ + 1 : 0;
    if (quiet_looks_ >= looks) return leave_();
    timer_ = loop_.after(pause_, [this] { look(); });
}

}  // namespace virtbus::host
