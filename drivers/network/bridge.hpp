// SPDX-License-Identifier: LGPL-2.1-or-later
// The bridge of a virtual network in the network namespace of the calling thread: made, given addresses and routes,
// removed. Which network wants which is network_driver's business. Everything here blocks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "network/tap.hpp"
#include "virtbus/ip.hpp"
#include "virtbus/model/network.hpp"

namespace virtbus::network {

/// A static route through the bridge.
struct BridgeRoute {
    IpNet destination;
    Ip gateway;
    std::uint32_t metric = 1;
    bool operator==(const BridgeRoute&) const = default;
};
struct BridgeSetting {
    std::string name;
    MacAddress mac{};
    std::uint32_t mtu = 0;  ///< kept whatever its ports have; 0 = the smallest of them
    bool stp = true;
    std::uint32_t delay = 0;  ///< seconds; with stp the kernel makes it 2 to 30
    bool ipv6 = false;        ///< guests may talk IPv6 on it; otherwise the kernel's IPv6 is off there
    std::vector<IpNet> addresses;
    std::vector<BridgeRoute> routes;
    bool operator==(const BridgeSetting&) const = default;
};

BridgeSetting bridge_setting(const NetworkConfig& config);

/// Makes it, up and with its addresses, and returns its index. AlreadyExists when the name is taken by any device.
/// Nothing is left on failure.
int make_bridge(const BridgeSetting& setting);
/// From what it was made with to what it shall be, without taking it down. When it throws, it is again what it was as
/// far as the kernel lets it be.
void change_bridge(int index, const BridgeSetting& before, const BridgeSetting& after);
/// It is still there under that name and index, and it is a bridge. Its ports are not looked at.
bool bridge_is_there(const std::string& name, int index);
/// The index of the bridge of that name; 0 when there is none.
int find_bridge(const std::string& name);
/// The device of that index has the address.
bool bridge_has_mac(int index, const MacAddress& mac);
/// Removes it if it is still the one; ports are let go. A bridge that is gone is no error.
void remove_bridge(const std::string& name, int index);

}  // namespace virtbus::network
