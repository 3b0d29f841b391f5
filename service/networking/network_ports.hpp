// SPDX-License-Identifier: LGPL-2.1-or-later
// The guests' places on a network: what an interface gets of the network's and its portgroup's settings, which device
// of a pool, which class of the bandwidth. Pure rules on values; making anything of it is left to others.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "service/xml/network_status.hpp"
#include "virtbus/model/interface.hpp"
#include "virtbus/model/network.hpp"

namespace virtbus {

/// Who is on an active network, and what of it they have.
struct PortTable {
    std::vector<NetworkPort> ports;
    // What another program's record says to be in use without saying by whom.
    std::vector<std::uint32_t> other_classes;
    std::uint64_t other_floors = 0;

    static PortTable of(const NetworkStatus& status);
    NetworkPort* find(const std::string& id);
    const NetworkPort* find(const std::string& id) const;
    void remove(const std::string& id);
    std::vector<std::uint32_t> class_ids() const;
    /// KiB a second.
    std::uint64_t floor_sum() const;
    std::size_t users_of(const std::string& device) const;
};

/// What an interface asks for when the network's and the portgroup's part is added: bandwidth, VLAN, virtual port,
/// isolation, receive filters, MTU. The interface's word counts before the portgroup's, and that before the network's.
/// UnsupportedConfiguration for a portgroup that is not there, and for virtual ports of two types.
Interface with_network(Interface interface, const NetworkConfig& network);
/// The name of the portgroup that counts; "" when there is none.
std::string port_group_of(const Interface& interface, const NetworkConfig& network);

/// What a pool gives out, each by the name that ports record.
std::vector<std::string> pool_devices(const NetworkConfig& network);

/// Gives the port what it needs of the network: the device of a pool that has the fewest guests (one that nobody has
/// where it cannot be shared), a class for a guaranteed floor. DeviceInUse when none is free,
/// UnsupportedConfiguration for a floor that does not fit what the network has.
void allot(NetworkPort& port, const Interface& merged, const NetworkConfig& network, const PortTable& table);

/// The interface as it is on the host's side: type bridge, direct or hostdev, for whoever makes links.
Interface resolved(const Interface& merged, const NetworkConfig& network, const NetworkPort& port);
/// The interface as the guest's live definition shows it.
Interface shown(Interface asked, const Interface& merged, const Interface& resolved, const NetworkPort& port);

/// With the counts of guests, as a network shows them while it is active.
NetworkConfig with_connections(NetworkConfig config, const PortTable& table);
NetworkConfig without_connections(NetworkConfig config);

}  // namespace virtbus
