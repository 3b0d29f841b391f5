// SPDX-License-Identifier: LGPL-2.1-or-later
// Addresses of a network: each in a network that it fits, and none twice.
#include <algorithm>
#include <set>

#include "service/xml/network_rules.hpp"

namespace virtbus::xml {

namespace {

constexpr std::uint64_t most_v4 = 1U << 20U, most_v6 = 1U << 16U;  ///< addresses of a range
constexpr std::uint64_t shortest_lease = 120;                      ///< seconds; dnsmasq takes less for this

bool is_any(const Ip& ip) {
    return ip == Ip{ip.v6, {}};
}
bool is_multicast(const Ip& ip) {
    return ip.v6 ? ip.bytes[0] == 0xff : ip.bytes[0] >= 224;
}
bool is_loopback(const Ip& ip) {
    return ip.v6 ? ip == *Ip::parse("::1") : ip.bytes[0] == 127;
}

/// An address that a guest can have in the network.
Ip require_guest_address(std::string_view what, const std::string& text, const IpNet& net) {
    const auto ip = require_address(what, text);
    if (!net.contains(ip)) broken_network("{}='{}' is not in the network {}", what, text, net.network().text());
    const bool has_ends = net.prefix + 1 < ip.bits();  // point-to-point networks have none
    if (has_ends && ip == net.network().address)
        broken_network("{}='{}' is the address of the network {} itself", what, text, net.network().text());
    if (has_ends && !ip.v6 && ip == net.last())
        broken_network("{}='{}' is the broadcast address of the network {}", what, text, net.network().text());
    return ip;
}

void check_lease(const std::optional<LeaseTime>& lease) {
    if (!lease || !lease->expiry || *lease->expiry == 0) return;
    if (lease->unit == "seconds" && *lease->expiry < shortest_lease)
        broken_network("<lease expiry='{}' unit='seconds'>: the least is {} seconds; 0 is for ever", *lease->expiry,
                       shortest_lease);
    if (lease->unit == "minutes" || lease->unit.empty()) {
        if (*lease->expiry * 60 < shortest_lease)
            broken_network("<lease expiry='{}' unit='minutes'>: the least is 2 minutes; 0 is for ever", *lease->expiry);
    }
    const std::uint64_t scale = lease->unit == "seconds" ? 1 : lease->unit == "hours" ? 3600 : 60;
    if (*lease->expiry > UINT32_MAX / scale)
        broken_network("<lease expiry='{}'> is too long; at most {} seconds are allowed, or 0 for ever", *lease->expiry,
                       UINT32_MAX);
}

struct Range {
    Ip start, end;
};

void check_ranges(const NetworkDhcp& dhcp, const IpNet& net) {
    std::vector<Range> ranges;
    for (const auto& range : dhcp.ranges) {
        const Range found{require_guest_address("<range> start", range.start, net),
                          require_guest_address("<range> end", range.end, net)};
        if (found.end < found.start)
            broken_network("<range start='{}' end='{}'>: the end is before the start", range.start, range.end);
        const auto count = count_between(found.start, found.end), most = net.address.v6 ? most_v6 : most_v4;
        if (count > most)
            broken_network("<range start='{}' end='{}'> has {} addresses; at most {} are allowed", range.start,
                           range.end, count, most);
        for (const auto& other : ranges)
            if (found.start <= other.end && other.start <= found.end)
                broken_network("<range start='{}' end='{}'> overlaps the one from {} to {}", range.start, range.end,
                               other.start.text(), other.end.text());
        ranges.push_back(found);
        check_lease(range.lease);
    }
}

void check_host_identity(const DhcpHost& host, bool v6) {
    if (v6 && !host.mac.empty())
        broken_network("<host mac='{}'>: an IPv6 host is told by id or name, not by mac", host.mac);
    if (v6 ? host.id.empty() && host.name.empty() : host.mac.empty() && host.name.empty() && host.id.empty())
        broken_network("<host ip='{}'> needs {}", host.ip, v6 ? "id or name" : "mac or name");
    if (!host.name.empty()) require_client_name("<host> name", host.name);
    constexpr std::size_t longest_id = 3 * 130;
    if (host.id.size() > longest_id || host.id.find_first_not_of("0123456789abcdefABCDEF:") != std::string::npos)
        broken_network("<host>: the id has other characters than hexadecimal digits and ':', or more than {}",
                       longest_id);
}

void check_hosts(const NetworkDhcp& dhcp, const IpNet& net) {
    std::set<Ip> addresses;
    std::set<std::string> macs, names, ids;
    const auto once = [](std::set<std::string>& known, std::string_view attribute, const std::string& value) {
        if (!value.empty() && !known.insert(value).second)
            broken_network("<dhcp>: two <host> have {}='{}'", attribute, value);
    };
    for (const auto& host : dhcp.hosts) {
        check_host_identity(host, net.address.v6);
        if (host.ip.empty())
            broken_network("<host {}='{}'> needs an ip", host.name.empty() ? "mac" : "name",
                           host.name.empty() ? host.mac : host.name);
        const auto ip = require_guest_address("<host> ip", host.ip, net);
        if (ip == net.address) broken_network("<host ip='{}'> is the address of the host itself", host.ip);
        if (!addresses.insert(ip).second) broken_network("<dhcp>: two <host> have ip='{}'", host.ip);
        once(macs, "mac", host.mac);
        once(names, "name", host.name);
        once(ids, "id", host.id);
        check_lease(host.lease);
    }
}

void check_dhcp(const NetworkIp& ip, const IpNet& net) {
    const auto& dhcp = *ip.dhcp;
    if (net.address.v6 && net.prefix < 64)
        broken_network("<ip address='{}'>: DHCP needs a prefix of at least 64, not {}", ip.address, net.prefix);
    if (dhcp.bootp) {
        if (net.address.v6) broken_network("<bootp> is of IPv4 only; <ip address='{}'> is IPv6", ip.address);
        require_plain("<bootp> file", dhcp.bootp->file);
        if (!dhcp.bootp->server.empty() && require_address("<bootp> server", dhcp.bootp->server).v6)
            broken_network("<bootp server='{}'> needs an IPv4 address", dhcp.bootp->server);
    }
    check_ranges(dhcp, net);
    check_hosts(dhcp, net);
}

void check_local_ptr(const NetworkIp& ip, const IpNet& net) {
    if (!ip.local_ptr.value_or(false)) return;
    const unsigned step = net.address.v6 ? 4 : 8;
    if (net.prefix % step || net.prefix == net.address.bits())
        broken_network(
            "<ip address='{}' localPtr='yes'>: the prefix {} is not one of a DNS zone; it must be a "
            "multiple of {}",
            ip.address, net.prefix, step);
}

IpNet check_ip(const NetworkIp& ip) {
    const auto net = net_of(ip);
    if (net.prefix == 0) broken_network("<ip address='{}'>: a network of prefix 0 has every address", ip.address);
    if (is_any(net.address) || is_multicast(net.address) || is_loopback(net.address))
        broken_network("<ip address='{}'> is not an address that a host can have in a network", ip.address);
    check_local_ptr(ip, net);
    if (!ip.tftp_root.empty()) {
        if (net.address.v6) broken_network("<tftp> is of IPv4 only; <ip address='{}'> is IPv6", ip.address);
        require_plain("<tftp> root", ip.tftp_root);
        if (!ip.tftp_root.starts_with('/')) broken_network("<tftp root='{}'> is not an absolute path", ip.tftp_root);
    }
    if (ip.dhcp) check_dhcp(ip, net);
    return net;
}

std::vector<IpNet> check_ips(const NetworkConfig& config) {
    std::vector<IpNet> nets;
    bool dhcp[2]{};
    for (const auto& ip : config.ips) {
        const auto net = check_ip(ip);
        for (const auto& other : nets)
            if (other.address == net.address) broken_network("two <ip> have address='{}'", ip.address);
        nets.push_back(net);
        if (!ip.dhcp || (ip.dhcp->ranges.empty() && ip.dhcp->hosts.empty())) continue;
        if (std::exchange(dhcp[net.address.v6], true))
            broken_network("two {} <ip> have <dhcp>; only one of each family can", net.address.v6 ? "IPv6" : "IPv4");
    }
    return nets;
}

void check_route(const IpRoute& route, const std::vector<IpNet>& nets) {
    const auto to = net_of(route);
    if (to != to.network())
        broken_network("<route address='{}' prefix='{}'>: the address is not that of the network, which is {}",
                       route.address, to.prefix, to.network().address.text());
    const auto gateway = require_address("<route> gateway", route.gateway);
    if (gateway.v6 != to.address.v6)
        broken_network("<route address='{}' gateway='{}'>: the gateway is of the other family", route.address,
                       route.gateway);
    if (route.metric == 0U) broken_network("<route address='{}' metric='0'>: the least metric is 1", route.address);
    const auto reached = [&](const IpNet& net) { return net.contains(gateway) && net.address != gateway; };
    if (std::none_of(nets.begin(), nets.end(), reached))
        broken_network("<route address='{}'>: the gateway {} is not in a network of this one, or is the host itself",
                       route.address, route.gateway);
}

void check_routes(const NetworkConfig& config, const std::vector<IpNet>& nets) {
    std::set<std::pair<std::string, std::uint32_t>> known;
    for (const auto& route : config.routes) {
        check_route(route, nets);
        if (!known.insert({net_of(route).text(), route.metric.value_or(0)}).second)
            broken_network("two <route> lead to {} with the same metric", net_of(route).text());
    }
}

void check_nat(const NetworkNat& nat) {
    if (nat.address) {
        const auto start = require_address("<nat><address> start", nat.address->start),
                   end = require_address("<nat><address> end", nat.address->end);
        if (start.v6 || end.v6) broken_network("<nat>: the <address> range is of IPv4 only");
        for (const auto& ip : {start, end})
            if (is_any(ip) || is_multicast(ip) || is_loopback(ip))
                broken_network("<nat>: {} is not an address that packets can come from", ip.text());
        if (end < start)
            broken_network("<nat>: <address start='{}' end='{}'> ends before its start", nat.address->start,
                           nat.address->end);
    }
    if (nat.port && nat.port->end < nat.port->start)
        broken_network("<nat>: <port start='{}' end='{}'> ends before its start", nat.port->start, nat.port->end);
}

}  // namespace

void check_addresses(NetworkConfig& config) {
    const auto nets = check_ips(config);
    check_routes(config, nets);
    const auto mode = forward_mode(config);
    if (config.forward && config.forward->nat) check_nat(*config.forward->nat);
    if (mode == ForwardMode::route && nets.empty()) broken_network("<forward mode='route'> needs an <ip>");
    if (mode != ForwardMode::nat) return;
    const bool v6 = config.forward->nat && config.forward->nat->ipv6.value_or(false);
    if (std::none_of(nets.begin(), nets.end(), [&](const IpNet& net) { return v6 || !net.address.v6; }))
        broken_network("<forward mode='nat'> needs an <ip>; an IPv6 one is enough with <nat ipv6='yes'>");
}

}  // namespace virtbus::xml
