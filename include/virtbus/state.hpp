// SPDX-License-Identifier: LGPL-2.1-or-later
// The states of a domain and their words on the bus. Reasons are free words ("booted", "user", "crashed", "failed",
// "destroyed", "shutdown", "restored", "starting-up", "daemon", "unkillable", "io-error", "watchdog", ...).
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace virtbus {

enum class State { shutoff, starting, running, paused, shutdown, crashed, pmsuspended };

inline constexpr std::array state_words{
    std::string_view{"shutoff"},     std::string_view{"starting"}, std::string_view{"running"},
    std::string_view{"paused"},      std::string_view{"shutdown"}, std::string_view{"crashed"},
    std::string_view{"pmsuspended"},
};

constexpr std::string_view word(State state) {
    return state_words[static_cast<std::size_t>(state)];
}

/// A process of the hypervisor exists. `crashed` is a guest that has panicked and is kept for a look (on_crash
/// preserve); one whose process died is shut off with the reason "crashed".
constexpr bool is_active(State state) {
    return state != State::shutoff;
}

}  // namespace virtbus
