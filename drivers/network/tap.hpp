// SPDX-License-Identifier: LGPL-2.1-or-later
// Makes, attaches to and removes tap devices in the network namespace of the calling thread, and puts them on bridges.
// Which interface of which definition wants one is links.hpp's business. Everything here blocks.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "virtbus/fd.hpp"

namespace virtbus::network {

using MacAddress = std::array<std::uint8_t, 6>;

/// "52:54:00:aa:bb:cc"; InvalidXML when it is none.
MacAddress parse_mac(const std::string& text);
/// The address of the host's side: high, so that a bridge does not take it as its own, and never the guest's.
MacAddress host_mac(MacAddress guest);

/// Of a port of a bridge that filters VLANs.
struct PortVlans {
    std::vector<std::uint16_t> tags;
    std::uint16_t native = 0;    ///< frames without a tag belong to it; 0 = they are dropped
    bool native_tagged = false;  ///< its frames have their tag on the way to the guest
    bool empty() const { return tags.empty() && native == 0; }
    bool operator==(const PortVlans&) const = default;
};

struct TapRequest {
    std::string name;    ///< "" = the first free vnetN
    MacAddress mac{};    ///< of the host's side; zeros = the kernel's choice
    std::string bridge;  ///< "" = none
    unsigned mtu = 0;    ///< 0 = the bridge's, without a bridge the kernel's default
    unsigned queues = 1;
    bool vnet_header = true;
    bool isolated = false;  ///< does not talk to the bridge's other isolated ports
    PortVlans vlans;        ///< on the bridge
    bool up = true;
    /// Called when the device is there and not yet on a bridge, with no frame in or out; what it throws undoes all.
    std::function<void(const std::string& name, int index)> guard{};
};

struct Tap {
    std::vector<Fd> fds;  ///< one per queue
    std::string name;
    int index = 0;
};

/// Nothing is left behind on failure. DeviceInUse when the name exists already.
Tap make_tap(const TapRequest& request);

/// Puts a tap that somebody has open where `request` says: bridge, MTU, VLANs, isolation. False when it is gone.
bool reconnect_tap(const std::string& name, int index, const TapRequest& request);

/// Opens a tap or macvtap that somebody else made, and changes nothing of it.
Tap attach_tap(const std::string& name, unsigned queues, bool vnet_header);

/// It is on a bridge of the kernel's. Blocks.
bool is_bridge_port(const std::string& name, int index);

/// How many frames from the guest the host's side may gather before it goes on with them; 0 = none. Blocks.
void set_coalesced_frames(const std::string& name, unsigned frames);

/// Removes the device if it is still the one of that name and index; else it is gone already.
void remove_tap(const std::string& name, int index);

}  // namespace virtbus::network
