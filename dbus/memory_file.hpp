// SPDX-License-Identifier: LGPL-2.1-or-later
// Sealed memory files: how documents that are too large for a message travel.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "virtbus/fd.hpp"

namespace virtbus::dbus {

/// The bytes in memory that nobody can change any more, to be read from the beginning. `name` is what /proc shows.
Fd sealed_file(const char* name, std::string_view content);

/// The size of a memory file that a caller has handed over; InvalidArgs, naming `what`, when it is anything else, could
/// still change, or has more than `most` bytes. Reads nothing and never blocks.
std::uint64_t require_sealed(const Fd& file, std::uint64_t most, std::string_view what);
/// All of a file that require_sealed has accepted. For a worker: it may be large.
std::string read_sealed(const Fd& file, std::uint64_t size, std::string_view what);

}  // namespace virtbus::dbus
