// SPDX-License-Identifier: LGPL-2.1-or-later
// What the host has that a network could collide with: devices, addresses, routes, servers on port 53 and 67. Reads
// only, in the network namespace of the calling thread, and blocks.
#pragma once

#include <string>
#include <vector>

#include "virtbus/model/network.hpp"
#include "virtbus/network_driver.hpp"

namespace virtbus::network {

/// Ranges that are no more than a part of a default route (as VPNs have them) are left out, as are link-local ones.
HostNetworks look_at_host();
/// Throws what NetworkDriver::start promises for the first thing that is in the way of a virtual network.
void require_no_conflict(const NetworkConfig& config, const HostNetworks& host);
/// The part of it that holds for a network which is active already and changes: no address or route of the host other
/// than through the network's own bridge is in its ranges.
void require_free_ranges(const NetworkConfig& config, const HostNetworks& host);
/// UnsupportedConfiguration naming the process when somebody has the DNS or DHCP port of one of the addresses, or of
/// all addresses of the host.
void require_free_ports(const NetworkConfig& config);

}  // namespace virtbus::network
