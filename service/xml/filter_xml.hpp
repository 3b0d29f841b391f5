// SPDX-License-Identifier: LGPL-2.1-or-later
// libvirt's <filter>, read only: definitions of network filters are files that an administrator leaves, or the shipped
// ones. What the attributes of a rule may say is not known here.
#pragma once

#include <string_view>

#include "virtbus/model/network_filter.hpp"

namespace virtbus::xml {

inline constexpr std::size_t largest_filter = 1UL << 20;

/// InvalidXML, LimitsExceeded. A protocol that is not known is an error, since a rule without one is for every frame.
NetworkFilter parse_filter(std::string_view xml);

}  // namespace virtbus::xml
