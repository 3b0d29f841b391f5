// SPDX-License-Identifier: LGPL-2.1-or-later
// The live state of an active network as text: libvirt's <networkstatus> with what virtbus adds, and the older layouts
// that are still read. Where the file lies and when it counts is left to those who keep it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "virtbus/model/interface.hpp"
#include "virtbus/model/network.hpp"

namespace virtbus {

/// A guest's place on a network.
struct NetworkPort {
    std::string id;  ///< a UUID: portid
    std::string domain_uuid, domain_name, mac;
    std::string port_group;
    std::string device;                     ///< of a pool: the device or PCI address of the host that this guest has
    std::uint32_t class_id = 0;             ///< of its guaranteed bandwidth; 0 = none
    std::optional<BandwidthLimit> inbound;  ///< what its class was made with
    bool operator==(const NetworkPort&) const = default;
};

struct NetworkStatus {
    std::string boot_id;  ///< "" in older layouts
    NetworkConfig config;
    std::string driver_state;              ///< opaque; "" in older layouts
    bool started = false;                  ///< its start came to its end; true for older layouts
    std::vector<std::uint32_t> class_ids;  ///< in use, beside those of ports (an older layout's bitmap, without 0 to 2)
    std::uint64_t floor_sum = 0;           ///< KiB a second
    std::vector<NetworkPort> ports;
    bool operator==(const NetworkStatus&) const = default;
};

namespace xml {
std::string format_network_status(const NetworkStatus& status);
/// Our own, libvirt's <networkstatus>, or a bare <network>. InvalidXML saying what is wrong; bounded as definitions
/// are.
NetworkStatus parse_network_status(std::string_view xml);
}  // namespace xml

}  // namespace virtbus
