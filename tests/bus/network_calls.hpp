// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: what suites about virtual networks say again and again.
#pragma once

#include <string>

#include "tests/bus/daemon.hpp"

namespace virtbus::tests {

inline constexpr const char* network = "org.virtbus1.Network";

inline std::string network_xml(const std::string& name, const std::string& more = "") {
    return "<network><name>" + name + "</name>" + more + "</network>";
}

/// NAT with DHCP and names on 192.168.NUMBER.0/24.
inline std::string nat_of(int number) {
    const std::string net = "192.168." + std::to_string(number) + ".";
    return "<forward mode='nat'/><domain name='example.org'/><ip address='" + net +
           "1' netmask='255.255.255.0'><dhcp><range start='" + net + "100' end='" + net + "200'/></dhcp></ip>";
}

/// Its path, or what went wrong.
inline std::string define_network(Client& client, const std::string& xml) {
    return text_of(client.call(root, manager, "DefineNetwork", "sa{sv}", xml.c_str(), 0));
}

}  // namespace virtbus::tests
