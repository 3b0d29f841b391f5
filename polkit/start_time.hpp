// SPDX-License-Identifier: LGPL-2.1-or-later
// When a process started, which together with its pid tells it from a later one.
#pragma once

#include <cstdint>

namespace virtbus::polkit {

/// Clock ticks since boot; 0 when there is no such process.
std::uint64_t start_time_of(std::uint32_t pid);

}  // namespace virtbus::polkit
