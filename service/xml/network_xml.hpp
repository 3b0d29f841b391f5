// SPDX-License-Identifier: LGPL-2.1-or-later
// libvirt's <network> as text and as model: the one door to service/xml for everybody who has networks in hand.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "virtbus/model/network.hpp"

namespace virtbus::xml {

struct ParsedNetwork {
    NetworkConfig config;
    std::vector<std::string> unknown;  ///< "/network/ip[2]/@foo (line 12)"; kept in the config and written back
};

/// InvalidXML (line, element, value found, values allowed) or LimitsExceeded; nothing else.
ParsedNetwork parse_network(std::string_view xml);
std::string format_network(const NetworkConfig& config);

/// One element of a network: NetworkBridge, NetworkDomainName, NetworkForward, ForwardInterface, ForwardCard,
/// NetworkIp, DhcpRange, DhcpHost, DnsHost, DnsTxt, DnsSrv or PortGroup. Errors as above; what is missing in it is
/// checked with the whole.
template <class Part>
Part parse_network_part(std::string_view xml);

/// Fills in what needs no host (UUID, MAC) and checks the rules that span elements: each address, range, host and route
/// in a network that it fits, names and addresses once, which elements a forward mode has. InvalidXML naming the rule.
/// The name of a bridge that is missing stays missing.
void complete_network(NetworkConfig& config);
/// <forward dev=> and the first <interface dev=> are one thing: each is made from the other. InvalidXML when they
/// differ. Reading and completing do this.
void settle_forward(NetworkConfig& config);
/// Without the counts of connections that only an active network has.
NetworkConfig without_live(NetworkConfig config);

}  // namespace virtbus::xml
