// SPDX-License-Identifier: LGPL-2.1-or-later
// VLAN tags of ports of a Linux bridge, which must have been told to filter them. Those of Open vSwitch are
// open_vswitch.hpp's. Everything here blocks.
#pragma once

#include <string>

#include "network/netlink.hpp"
#include "network/tap.hpp"
#include "virtbus/model/interface.hpp"

namespace virtbus::network {

/// InvalidXML for tags that contradict each other.
PortVlans port_vlans(const Vlan& vlan);

/// The port is in these and in no other VLAN. UnsupportedConfiguration when the bridge does not filter.
void set_port_vlans(nl_sock* socket, int index, const std::string& name, const std::string& bridge,
                    const PortVlans& vlans);

/// The request to the kernel that set_port_vlans makes; for tests.
Message vlan_request(int index, const PortVlans& vlans);

}  // namespace virtbus::network
