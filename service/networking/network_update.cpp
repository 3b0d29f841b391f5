// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/networking/network_update.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "service/xml/network_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

enum class Command { add_first, add_last, modify, remove };
constexpr std::array<std::string_view, 4> commands{"add-first", "add-last", "modify", "delete"};

/// One change, its part not yet read.
struct Change {
    Command command;
    int parent_index;
    std::string_view xml;

    bool adds() const { return command == Command::add_first || command == Command::add_last; }
};

[[noreturn]] void exists(std::string_view what) {
    throw Error{Code::already_exists, fmt::format("the network has {} already; modify it instead", what)};
}
[[noreturn]] void missing(std::string_view what) {
    throw Error{Code::invalid_state, fmt::format("the network has no {}", what)};
}
[[noreturn]] void unsupported(std::string_view section, const Change& change, std::string_view instead) {
    throw Error{Code::unsupported, fmt::format("a network's {} cannot be changed with '{}'; {}", section,
                                               commands[static_cast<std::size_t>(change.command)], instead)};
}

/// The list with the change made. `same`: an element that an addition collides with and that a modification replaces;
/// `meant`: what a deletion speaks of.
template <class Part, class Same, class Meant>
void change_list(std::vector<Part>& list, Part part, const Change& change, const std::string& what, Same&& same,
                 Meant&& meant) {
    if (change.command == Command::remove) {
        const auto count = std::count_if(list.begin(), list.end(), meant);
        if (count == 0) missing(what);
        if (count > 1)
            throw Error{Code::invalid_state, fmt::format("{} matches {} of the network; say more of it", what, count)};
        list.erase(std::find_if(list.begin(), list.end(), meant));
        return;
    }
    const auto found = std::find_if(list.begin(), list.end(), same);
    if (change.adds()) {
        if (found != list.end()) exists(what);
        list.insert(change.command == Command::add_first ? list.begin() : list.end(), std::move(part));
    } else {
        if (found == list.end()) missing(what);
        *found = std::move(part);
    }
}
template <class Part, class Same>
void change_list(std::vector<Part>& list, Part part, const Change& change, const std::string& what, Same&& same) {
    change_list(list, std::move(part), change, what, same, same);
}

bool same_address(const std::string& a, const std::string& b) {
    const auto left = Ip::parse(a), right = Ip::parse(b);
    return left && right ? *left == *right : a == b;
}

/// " name='value'" for what is there.
std::string attributes(std::initializer_list<std::pair<std::string_view, std::string_view>> list) {
    std::string text;
    for (const auto& [name, value] : list)
        if (!value.empty()) text += fmt::format(" {}='{}'", name, value);
    return text;
}

// ---- addresses

/// The <ip> whose DHCP a change is about. Without an index the first with DHCP of that family, else the first of it.
NetworkIp& parent_ip(NetworkConfig& config, int index, std::optional<bool> v6) {
    if (index >= 0) {
        if (static_cast<std::size_t>(index) < config.ips.size()) return config.ips[static_cast<std::size_t>(index)];
        throw Error{Code::invalid_args,
                    fmt::format("there is no <ip> {}; the network has {}, counted from 0, and -1 is the one that fits",
                                index, config.ips.size())};
    }
    if (index != -1)
        throw Error{Code::invalid_args, fmt::format("the parent index {} is not allowed; allowed: -1 and what counts "
                                                    "the network's <ip> from 0",
                                                    index)};
    NetworkIp* first = nullptr;
    for (auto& ip : config.ips) {
        if (v6 && *v6 != (ip.family == "ipv6")) continue;
        if (ip.dhcp && !(ip.dhcp->ranges.empty() && ip.dhcp->hosts.empty())) return ip;
        if (!first) first = &ip;
    }
    if (!first) missing(v6 ? fmt::format("<ip> of {}", *v6 ? "IPv6" : "IPv4") : "<ip>");
    return *first;
}

std::optional<bool> family_of(const std::string& address) {
    const auto ip = Ip::parse(address);
    return ip ? std::optional{ip->v6} : std::nullopt;
}

template <class Action>
void with_dhcp(NetworkIp& ip, const Change& change, Action&& action) {
    if (!ip.dhcp) ip.dhcp.emplace();
    action(*ip.dhcp);
    if (!change.adds() && *ip.dhcp == NetworkDhcp{}) ip.dhcp.reset();
}

void change_dhcp_host(NetworkConfig& config, const Change& change) {
    auto host = xml::parse_network_part<DhcpHost>(change.xml);
    auto family = family_of(host.ip);
    if (!family && !host.mac.empty()) family = false;
    const auto what =
        fmt::format("<host{}>", attributes({{"mac", host.mac}, {"id", host.id}, {"name", host.name}, {"ip", host.ip}}));
    if (host.mac.empty() && host.id.empty() && host.name.empty() && host.ip.empty())
        throw Error{Code::invalid_xml, "<host> needs mac, id, name or ip to say which one is meant"};
    const auto equal = [](const std::string& wanted, const std::string& found) {
        return !wanted.empty() && wanted == found;
    };
    const auto same = [&equal, key = host](const DhcpHost& other) {
        return equal(key.mac, other.mac) || equal(key.id, other.id) || equal(key.name, other.name) ||
               (!key.ip.empty() && same_address(key.ip, other.ip));
    };
    const auto meant = [key = host](const DhcpHost& other) {
        return (key.mac.empty() || key.mac == other.mac) && (key.id.empty() || key.id == other.id) &&
               (key.name.empty() || key.name == other.name) && (key.ip.empty() || same_address(key.ip, other.ip));
    };
    with_dhcp(parent_ip(config, change.parent_index, family), change,
              [&](NetworkDhcp& dhcp) { change_list(dhcp.hosts, std::move(host), change, what, same, meant); });
}

void change_dhcp_range(NetworkConfig& config, const Change& change) {
    auto range = xml::parse_network_part<DhcpRange>(change.xml);
    const auto same = [key = range](const DhcpRange& other) {
        return same_address(key.start, other.start) && same_address(key.end, other.end);
    };
    const auto what = fmt::format("<range start='{}' end='{}'>", range.start, range.end);
    with_dhcp(parent_ip(config, change.parent_index, family_of(range.start)), change,
              [&](NetworkDhcp& dhcp) { change_list(dhcp.ranges, std::move(range), change, what, same); });
}

void change_ip(NetworkConfig& config, const Change& change) {
    auto ip = xml::parse_network_part<NetworkIp>(change.xml);
    const auto what = fmt::format("<ip address='{}'>", ip.address);
    const auto same = [key = ip.address](const NetworkIp& other) { return same_address(key, other.address); };
    change_list(config.ips, std::move(ip), change, what, same);
}

// ---- names

template <class Action>
void with_dns(NetworkConfig& config, Action&& action) {
    if (!config.dns) config.dns.emplace();
    action(*config.dns);
    if (*config.dns == NetworkDns{}) config.dns.reset();
}

void change_dns_host(NetworkConfig& config, const Change& change) {
    auto host = xml::parse_network_part<DnsHost>(change.xml);
    if (host.ip.empty() && host.hostnames.empty())
        throw Error{Code::invalid_xml, "<host> needs an ip or a <hostname> to say which one is meant"};
    const auto what = host.ip.empty() ? fmt::format("<host> with the hostname '{}'", host.hostnames.front())
                                      : fmt::format("<host ip='{}'>", host.ip);
    const auto same = [key = host.ip](const DnsHost& other) { return same_address(key, other.ip); };
    const auto meant = [key = host](const DnsHost& other) {
        if (!key.ip.empty()) return same_address(key.ip, other.ip);
        return std::any_of(key.hostnames.begin(), key.hostnames.end(), [&](const std::string& name) {
            return std::find(other.hostnames.begin(), other.hostnames.end(), name) != other.hostnames.end();
        });
    };
    with_dns(config, [&](NetworkDns& dns) { change_list(dns.hosts, std::move(host), change, what, same, meant); });
}

void change_dns_txt(NetworkConfig& config, const Change& change) {
    auto text = xml::parse_network_part<DnsTxt>(change.xml);
    const auto what = fmt::format("<txt name='{}'>", text.name);
    const auto same = [key = text.name](const DnsTxt& other) { return key == other.name; };
    with_dns(config, [&](NetworkDns& dns) { change_list(dns.texts, std::move(text), change, what, same); });
}

void change_dns_srv(NetworkConfig& config, const Change& change) {
    auto service = xml::parse_network_part<DnsSrv>(change.xml);
    const auto what = fmt::format("<srv{}>", attributes({{"service", service.service},
                                                         {"protocol", service.protocol},
                                                         {"domain", service.domain},
                                                         {"target", service.target}}));
    const auto same = [key = service](const DnsSrv& other) {
        return key.service == other.service && key.protocol == other.protocol && key.domain == other.domain &&
               key.target == other.target;
    };
    const auto given = [](const std::string& wanted, const std::string& found) {
        return wanted.empty() || wanted == found;
    };
    const auto meant = [&given, key = service](const DnsSrv& other) {
        return given(key.service, other.service) && given(key.protocol, other.protocol) &&
               given(key.domain, other.domain) && given(key.target, other.target);
    };
    with_dns(config,
             [&](NetworkDns& dns) { change_list(dns.services, std::move(service), change, what, same, meant); });
}

void change_domain(NetworkConfig& config, const Change& change) {
    auto domain = xml::parse_network_part<NetworkDomainName>(change.xml);
    if (change.adds()) {
        if (config.domain) exists(fmt::format("<domain name='{}'>", config.domain->name));
    } else if (!config.domain || (change.command == Command::remove && config.domain->name != domain.name)) {
        missing(fmt::format("<domain name='{}'>", domain.name));
    }
    if (change.command == Command::remove)
        config.domain.reset();
    else
        config.domain = std::move(domain);
}

// ---- the bridge and the way out

void change_bridge(NetworkConfig& config, const Change& change) {
    auto bridge = xml::parse_network_part<NetworkBridge>(change.xml);
    if (change.command != Command::modify) unsupported("bridge", change, "it has one, which can be modified");
    if (!config.bridge) missing("<bridge>");
    if (bridge.name.empty()) bridge.name = config.bridge->name;
    config.bridge = std::move(bridge);
}

void change_forward(NetworkConfig& config, const Change& change) {
    auto forward = xml::parse_network_part<NetworkForward>(change.xml);
    if (change.adds() && config.forward) exists(fmt::format("<forward mode='{}'>", word(forward_mode(config))));
    if (!change.adds() && !config.forward) missing("<forward>");
    if (change.command == Command::remove) return config.forward.reset();
    if (config.forward)
        for (auto& interface : forward.interfaces)
            for (const auto& before : config.forward->interfaces)
                if (before.dev == interface.dev) interface.connections = before.connections;
    config.forward = std::move(forward);
}

NetworkForward& require_forward(NetworkConfig& config) {
    if (!config.forward) missing("<forward>; add one first");
    return *config.forward;
}

void change_forward_interface(NetworkConfig& config, const Change& change) {
    auto interface = xml::parse_network_part<ForwardInterface>(change.xml);
    auto& forward = require_forward(config);
    if (change.command == Command::modify)
        unsupported("forward-interface", change, "it has nothing but its name; delete it and add another");
    interface.connections.reset();
    const auto what = fmt::format("<interface dev='{}'>", interface.dev);
    const auto same = [key = interface.dev](const ForwardInterface& other) { return key == other.dev; };
    change_list(forward.interfaces, std::move(interface), change, what, same);
    forward.dev = forward.interfaces.empty() ? "" : forward.interfaces.front().dev;
}

void change_forward_card(NetworkConfig& config, const Change& change) {
    auto card = xml::parse_network_part<ForwardCard>(change.xml);
    auto& forward = require_forward(config);
    const auto what = fmt::format("<pf dev='{}'>", card.dev);
    if (change.command == Command::modify) {
        if (forward.cards.empty()) missing("<pf>");
        forward.cards.front() = std::move(card);
    } else {
        if (change.adds() && forward.cards.empty() && !(forward.interfaces.empty() && forward.addresses.empty()))
            throw Error{Code::invalid_state, "the network gives out devices that it names; delete them first"};
        const auto same = [key = card.dev](const ForwardCard& other) { return key == other.dev; };
        change_list(forward.cards, std::move(card), change, what, same);
    }
    // They were functions of the card before.
    forward.interfaces.clear(), forward.addresses.clear(), forward.dev.clear();
}

void change_port_group(NetworkConfig& config, const Change& change) {
    auto group = xml::parse_network_part<PortGroup>(change.xml);
    const auto what = fmt::format("<portgroup name='{}'>", group.name);
    const auto same = [key = group.name](const PortGroup& other) { return key == other.name; };
    change_list(config.port_groups, std::move(group), change, what, same);
}

struct Section {
    std::string_view name;
    void (*change)(NetworkConfig& config, const Change& change);
};
constexpr Section sections[]{
    {"bridge", change_bridge},
    {"domain", change_domain},
    {"ip", change_ip},
    {"ip-dhcp-host", change_dhcp_host},
    {"ip-dhcp-range", change_dhcp_range},
    {"forward", change_forward},
    {"forward-interface", change_forward_interface},
    {"forward-pf", change_forward_card},
    {"portgroup", change_port_group},
    {"dns-host", change_dns_host},
    {"dns-txt", change_dns_txt},
    {"dns-srv", change_dns_srv},
};

const Section& get_section(std::string_view name) {
    const auto* found = std::find_if(std::begin(sections), std::end(sections),
                                     [&](const Section& section) { return section.name == name; });
    if (found != std::end(sections)) return *found;
    std::string names;
    for (const auto& section : sections) names.append(names.empty() ? "" : ", ").append(section.name);
    throw Error{Code::invalid_args, fmt::format("the section '{}' is not known; known: {}", name, names)};
}

Command get_command(std::string_view name) {
    const auto* found = std::find(commands.begin(), commands.end(), name);
    if (found != commands.end()) return static_cast<Command>(found - commands.begin());
    throw Error{Code::invalid_args,
                fmt::format("the command '{}' is not known; known: {}", name, fmt::join(commands, ", "))};
}

}  // namespace

NetworkConfig updated(NetworkConfig config, const NetworkUpdate& update) {
    const auto command = get_command(update.command);
    get_section(update.section).change(config, {command, update.parent_index, update.xml});
    xml::complete_network(config);
    return config;
}

}  // namespace virtbus
