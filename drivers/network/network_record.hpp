// SPDX-License-Identifier: LGPL-2.1-or-later
// What is on record of an active network: what a later daemon needs to take it up, and to take it down. The text is
// opaque to everybody else.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "network/dnsmasq.hpp"
#include "virtbus/network_driver.hpp"

namespace virtbus::network {

struct NetworkRecord {
    std::string bridge;  ///< "" = none was made: a pool of the host's devices
    int index = 0;       ///< of the bridge; 0 = it was to be made, and may be there
    std::string mac;     ///< of the bridge: how one that was to be made is told from another of its name
    DnsmasqRecord dnsmasq;
    std::vector<PortClass> classes;
};

std::string encode(const NetworkRecord& record);
/// Internal saying what is wrong with it.
NetworkRecord decode_network_record(std::string_view text);

}  // namespace virtbus::network
