// SPDX-License-Identifier: LGPL-2.1-or-later
// Virtual functions of network cards (SR-IOV) that are given to guests: their MAC and VLAN are set through the card
// they are part of. Binding them to vfio is not done here. Everything blocks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "network/tap.hpp"
#include "virtbus/model/host_address.hpp"
#include "virtbus/network_driver.hpp"

namespace virtbus::network {

struct VirtualFunction {
    std::string parent;  ///< the card's network device
    unsigned number = 0;
    bool operator==(const VirtualFunction&) const = default;
};
struct VirtualFunctionState {
    MacAddress mac{};
    unsigned vlan = 0;  ///< 0 = none
};

/// nullopt when the PCI device is no virtual function. `root` stands for the host's root.
std::optional<VirtualFunction> find_virtual_function(const std::string& root, const std::string& address);

/// Those of the card with that network device, in the order of their numbers. UnsupportedConfiguration when there is no
/// such device.
std::vector<CardFunction> functions_of(const std::string& root, const std::string& card);

VirtualFunctionState state_of(const VirtualFunction& function);
void set_state(const VirtualFunction& function, const VirtualFunctionState& state);

}  // namespace virtbus::network
