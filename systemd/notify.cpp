// SPDX-License-Identifier: LGPL-2.1-or-later
#include "notify.hpp"

#include <systemd/sd-daemon.h>

namespace virtbus::systemd {

void Notify::ready() {
    std::uint64_t limit = 0;
    if (sd_watchdog_enabled(0, &limit) > 0 && limit > 0)
        interval_ = std::chrono::duration_cast<Duration>(std::chrono::microseconds{limit}) / 2;
    sd_notify(0, "READY=1");
    if (interval_ > Duration{0}) feed();
}

void Notify::stopping() {
    sd_notify(0, "STOPPING=1");
}

void Notify::status(const std::string& text) {
    auto line = "STATUS=" + text;
    for (auto& c : line)
        if (c == '\n') c = ' ';
    sd_notify(0, line.c_str());
}

void Notify::feed() {
    sd_notify(0, "WATCHDOG=1");
    // The old registration belongs to the timer that is calling; it goes in a turn of its own.
    loop_.post([this] { timer_ = loop_.after(interval_, [this] { feed(); }); });
}

}  // namespace virtbus::systemd
