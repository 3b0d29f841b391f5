// SPDX-License-Identifier: LGPL-2.1-or-later
// The spellings of values in libvirt's XML: UUIDs, MAC addresses, sets of CPUs, sizes with units. Each parse_ returns
// false for what is not allowed and leaves the message to its caller.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "service/xml/table.hpp"

namespace virtbus::xml {

/// Without blanks and line breaks at both ends.
std::string_view trim(std::string_view text);

/// With or without dashes, any case -> lower case with dashes.
bool parse_uuid(std::string_view text, std::string& uuid);
/// Unicast only -> "52:54:00:0a:0b:0c".
bool parse_mac(std::string_view text, std::string& mac);
/// "0-3,^2,8"; empty sets are refused.
bool parse_cpu_set(std::string_view text, CpuSet& set);
std::string format_cpu_set(const CpuSet& set);

/// A number and its unit (b, bytes, k, KiB, KB, M ... E; "" = default_scale) in bytes; false when unknown or too big.
bool parse_scaled(std::string_view number, std::string_view unit, std::uint64_t default_scale, std::uint64_t& bytes);

struct ScaledText {
    std::uint64_t number;
    std::string_view unit;
};
/// Rounds up to the unit.
ScaledText format_scaled(std::uint64_t bytes, Unit unit);

}  // namespace virtbus::xml
