// SPDX-License-Identifier: LGPL-2.1-or-later
// <clock>: the guest's real-time clock and timers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/basics.hpp"

namespace virtbus {

struct TimerCatchup {
    std::optional<std::uint64_t> threshold, slew, limit;
    Unknown unknown;
    bool operator==(const TimerCatchup&) const = default;
};

struct Timer {
    std::string name;  ///< platform, pit, rtc, hpet, tsc, kvmclock, hypervclock, armvtimer
    std::optional<bool> present;
    std::string tickpolicy;  ///< delay, catchup, merge, discard
    std::string track;       ///< boot, guest, wall, realtime
    std::optional<std::uint64_t> frequency;
    std::string mode;
    std::optional<TimerCatchup> catchup;
    Unknown unknown;
    bool operator==(const Timer&) const = default;
};

struct GuestClock {
    std::string offset = "utc";  ///< utc, localtime, timezone, variable, absolute
    std::string adjustment;      ///< seconds, or "reset"
    std::string basis;           ///< variable: utc, localtime
    std::string timezone;
    std::optional<std::uint64_t> start;  ///< absolute: seconds since the epoch
    std::vector<Timer> timers;
    Unknown unknown;
    bool operator==(const GuestClock&) const = default;
};

}  // namespace virtbus
