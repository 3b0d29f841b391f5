// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/network_xml.hpp"

#include <fmt/format.h>

#include "service/xml/binding.hpp"
#include "service/xml/document.hpp"
#include "service/xml/tables.hpp"
#include "virtbus/error.hpp"

namespace virtbus::xml {

namespace {

struct PartKind {
    std::string_view element;
    const Table* table;
};
PartKind part_kind(const NetworkBridge*) {
    return {"bridge", &network_bridge_table};
}
PartKind part_kind(const NetworkDomainName*) {
    return {"domain", &network_domain_table};
}
PartKind part_kind(const NetworkForward*) {
    return {"forward", &network_forward_table};
}
PartKind part_kind(const ForwardInterface*) {
    return {"interface", &forward_interface_table};
}
PartKind part_kind(const ForwardCard*) {
    return {"pf", &forward_card_table};
}
PartKind part_kind(const NetworkIp*) {
    return {"ip", &network_ip_table};
}
PartKind part_kind(const DhcpRange*) {
    return {"range", &dhcp_range_table};
}
PartKind part_kind(const DhcpHost*) {
    return {"host", &dhcp_host_table};
}
PartKind part_kind(const DnsHost*) {
    return {"host", &dns_host_table};
}
PartKind part_kind(const DnsTxt*) {
    return {"txt", &dns_txt_table};
}
PartKind part_kind(const DnsSrv*) {
    return {"srv", &dns_srv_table};
}
PartKind part_kind(const PortGroup*) {
    return {"portgroup", &port_group_table};
}

bool gives_something(const NetworkForward& forward) {
    return !forward.dev.empty() || forward.managed || !forward.driver.empty() || forward.nat ||
           !forward.cards.empty() || !forward.interfaces.empty() || !forward.addresses.empty();
}

}  // namespace

void settle_forward(NetworkConfig& config) {
    if (!config.forward) return;
    auto& forward = *config.forward;
    if (forward.mode == ForwardMode::none) {
        if (gives_something(forward))
            throw Error{Code::invalid_xml, "<forward>: mode='none' has neither devices nor NAT; leave the element out"};
        config.forward.reset();
        return;
    }
    if (!forward.cards.empty()) return;
    if (forward.interfaces.empty()) {
        if (!forward.dev.empty() && forward.addresses.empty()) forward.interfaces.emplace_back().dev = forward.dev;
        return;
    }
    const auto& first = forward.interfaces.front().dev;
    if (forward.dev.empty()) forward.dev = first;
    if (forward.dev != first)
        throw Error{Code::invalid_xml, fmt::format("<forward dev='{}'> and its first <interface dev='{}'> differ; give "
                                                   "only one of them, or the same",
                                                   forward.dev, first)};
}

ParsedNetwork parse_network(std::string_view xml) {
    const Document document{xml};
    ParsedNetwork parsed;
    read(network_table, document.require_root("network"), &parsed.config, parsed.unknown);
    settle_forward(parsed.config);
    return parsed;
}

template <class Part>
Part parse_network_part(std::string_view xml) {
    const auto known = part_kind(static_cast<const Part*>(nullptr));
    const Document document{xml};
    Part part;
    std::vector<std::string> unknown;
    read(*known.table, document.require_root(known.element), &part, unknown);
    return part;
}
template NetworkBridge parse_network_part(std::string_view);
template NetworkDomainName parse_network_part(std::string_view);
template NetworkForward parse_network_part(std::string_view);
template ForwardInterface parse_network_part(std::string_view);
template ForwardCard parse_network_part(std::string_view);
template NetworkIp parse_network_part(std::string_view);
template DhcpRange parse_network_part(std::string_view);
template DhcpHost parse_network_part(std::string_view);
template DnsHost parse_network_part(std::string_view);
template DnsTxt parse_network_part(std::string_view);
template DnsSrv parse_network_part(std::string_view);
template PortGroup parse_network_part(std::string_view);

std::string format_network(const NetworkConfig& config) {
    Writer writer;
    const WriteOptions how{.declared = config.dnsmasq_options.empty() ? nullptr : &dnsmasq_namespace};
    write(network_table, "network", &config, how, writer);
    return writer.take();
}

NetworkConfig without_live(NetworkConfig config) {
    config.connections.reset();
    if (!config.forward) return config;
    auto& forward = *config.forward;
    for (auto& interface : forward.interfaces) interface.connections.reset();
    // What the card's functions were when the network was started.
    if (!forward.cards.empty()) forward.interfaces.clear(), forward.addresses.clear(), forward.dev.clear();
    return config;
}

}  // namespace virtbus::xml
