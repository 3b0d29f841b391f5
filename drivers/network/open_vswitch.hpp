// SPDX-License-Identifier: LGPL-2.1-or-later
// Ports of Open vSwitch: what its program is told when a guest's tap comes and goes. Pure but for asking what a device
// is; links.hpp makes the tap and runs the program.
#pragma once

#include <string>
#include <vector>

#include "virtbus/driver.hpp"

namespace virtbus::network {

/// The interface's bridge is one of Open vSwitch: it says so, or the device is its. Blocks.
bool is_switch_port(const Interface& interface);

/// Arguments of ovs-vsctl, without its name: the port is made anew on the bridge, in one transaction.
std::vector<std::string> add_port_arguments(const LinkRequest& request, const std::string& tap);
std::vector<std::string> remove_port_arguments(const std::string& bridge, const std::string& tap);

}  // namespace virtbus::network
