// SPDX-License-Identifier: LGPL-2.1-or-later
// Makes macvtap devices on devices of the host, opens them and removes them, in the network namespace of the calling
// thread. Which interface of which definition wants one is links.hpp's business. Everything here blocks.
#pragma once

#include <string>

#include "network/tap.hpp"

namespace virtbus::network {

struct MacvtapRequest {
    std::string name;   ///< "" = the first free macvtapN
    std::string lower;  ///< the host's device
    std::string mode;   ///< vepa, bridge, private, passthrough; "" = vepa
    MacAddress mac{};   ///< the guest's
    unsigned mtu = 0;   ///< 0 = the lower device's
    unsigned queues = 1;
    bool vnet_header = true;
};

struct Macvtap {
    Tap tap;
    MacAddress lower_mac{};  ///< what the lower device had; passthrough gives it the guest's
};

/// Nothing is left behind on failure. DeviceInUse when the name exists already, or when the lower device serves one
/// guest alone.
Macvtap make_macvtap(const MacvtapRequest& request);
/// Removes it if it is still the one, and gives the lower device its address back. What is gone is no error.
void remove_passthrough(const std::string& name, int index, const std::string& lower, const MacAddress& before);

/// One more queue of a macvtap device; each descriptor is one.
Fd open_macvtap_queue(int index, const std::string& name, unsigned queues, bool vnet_header);

}  // namespace virtbus::network
