// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtbus/model/network.hpp"

#include <algorithm>

#include "virtbus/error.hpp"

namespace virtbus {

NetworkConfig::NetworkConfig() = default;
NetworkConfig::NetworkConfig(const NetworkConfig&) = default;
NetworkConfig::NetworkConfig(NetworkConfig&&) noexcept = default;
NetworkConfig& NetworkConfig::operator=(const NetworkConfig&) = default;
NetworkConfig& NetworkConfig::operator=(NetworkConfig&&) noexcept = default;
NetworkConfig::~NetworkConfig() = default;
bool NetworkConfig::operator==(const NetworkConfig&) const = default;

namespace {

[[noreturn]] void broken(const std::string& element, const std::string& why) {
    throw Error{Code::invalid_xml, "<" + element + ">: " + why};
}

unsigned class_prefix(const Ip& address) {
    const auto first = address.bytes[0];
    return first < 128 ? 8 : first < 192 ? 16 : first < 224 ? 24 : 32;
}

/// What <ip> and <route> have in common.
IpNet net_of(const std::string& element, const std::string& family, const std::string& address,
             const std::string& netmask, const std::optional<std::uint32_t>& prefix) {
    const auto ip = Ip::parse(address);
    if (!ip) broken(element, "address='" + address + "' is not an IP address");
    if (ip->v6 != (family == "ipv6"))
        broken(element, family.empty() ? "the IPv6 address " + address + " needs family='ipv6'"
                                       : "address='" + address + "' is not of family='" + family + "'");
    if (!netmask.empty()) {
        if (prefix) broken(element, "netmask and prefix exclude each other");
        const auto mask = Ip::parse(netmask);
        const auto length = mask && mask->v6 == ip->v6 ? prefix_of_netmask(*mask) : std::nullopt;
        if (!length || ip->v6)
            broken(element, "netmask='" + netmask + "' is not an IPv4 netmask; an IPv6 network has a prefix");
        return {*ip, *length};
    }
    if (prefix && *prefix > ip->bits())
        broken(element, "prefix='" + std::to_string(*prefix) + "' is more than the " + std::to_string(ip->bits()) +
                            " bits of " + address);
    return {*ip, prefix.value_or(ip->v6 ? 64 : class_prefix(*ip))};
}

}  // namespace

ForwardMode forward_mode(const NetworkConfig& config) {
    return config.forward ? config.forward->mode.value_or(ForwardMode::nat) : ForwardMode::none;
}

bool is_virtual(ForwardMode mode) {
    return mode == ForwardMode::none || is_routed(mode);
}

bool is_routed(ForwardMode mode) {
    return mode == ForwardMode::nat || mode == ForwardMode::route || mode == ForwardMode::open;
}

bool is_pool(const NetworkConfig& config) {
    const auto mode = forward_mode(config);
    if (mode == ForwardMode::bridge) return !config.bridge || config.bridge->name.empty();
    return !is_virtual(mode);
}

IpNet net_of(const NetworkIp& ip) {
    return net_of("ip", ip.family, ip.address, ip.netmask, ip.prefix);
}

IpNet net_of(const IpRoute& route) {
    const bool bare = route.netmask.empty() && !route.prefix;
    auto net = net_of("route", route.family, route.address, route.netmask, route.prefix);
    if (bare && net.address == Ip{net.address.v6, {}}) net.prefix = 0;
    return net;
}

bool wants_dnsmasq(const NetworkConfig& config) {
    if (!is_virtual(forward_mode(config)) || config.ips.empty()) return false;
    if (!config.dns || config.dns->enable.value_or(true)) return true;
    return std::any_of(config.ips.begin(), config.ips.end(), [](const NetworkIp& ip) {
        return ip.family == "ipv6" || !ip.tftp_root.empty() ||
               (ip.dhcp && !(ip.dhcp->ranges.empty() && ip.dhcp->hosts.empty()));
    });
}

}  // namespace virtbus
