// SPDX-License-Identifier: LGPL-2.1-or-later
// Bandwidth of a whole network: limits on its bridge, and classes in it that keep a floor for single guests. Everything
// here blocks. Limits of a single link are shaping.hpp's.
#pragma once

#include <cstdint>
#include <string>

#include "virtbus/model/interface.hpp"
#include "virtbus/network_driver.hpp"

namespace virtbus::network {

/// Limits what comes out of the bridge to its guests (inbound) and what they send into it (outbound), replacing limits
/// that are there; an empty bandwidth removes them. Outbound limits may need a device of the network's own (ifb), which
/// is named after the bridge's index and goes with clear_bridge.
void limit_bridge(int index, const std::string& name, const Bandwidth& bandwidth);
void set_class(int index, const std::string& name, const Bandwidth& network, const PortClass& port);
void remove_class(int index, const std::string& name, std::uint32_t id);
/// Removes what limit_bridge made beside the bridge itself. Nothing there is no error.
void clear_bridge(int index, const std::string& name);

}  // namespace virtbus::network
