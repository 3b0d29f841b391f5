// SPDX-License-Identifier: LGPL-2.1-or-later
// What a change of an active network would break for the guests on it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "service/networking/network_ports.hpp"

namespace virtbus {

struct Breakage {
    std::string what;                  ///< "its portgroup 'fast' would change"
    std::vector<std::string> domains;  ///< names, each once
};
/// The first thing that would break; nothing when all guests can go on.
std::optional<Breakage> breakage(const NetworkConfig& before, const NetworkConfig& after, const PortTable& table);

}  // namespace virtbus
