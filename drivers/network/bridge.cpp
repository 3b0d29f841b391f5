// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/bridge.hpp"

#include <fmt/format.h>
#include <linux/if_link.h>
#include <netlink/addr.h>
#include <netlink/errno.h>
#include <netlink/route/addr.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>

#include <algorithm>
#include <cstring>

#include "network/netlink.hpp"
#include "network/sysctl.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

using Address = std::unique_ptr<nl_addr, Free<nl_addr_put>>;
using AddressObject = std::unique_ptr<rtnl_addr, Free<rtnl_addr_put>>;
using RouteObject = std::unique_ptr<rtnl_route, Free<rtnl_route_put>>;

constexpr std::uint32_t default_mtu = 1500;
constexpr std::uint32_t shortest_delay = 2, longest_delay = 30;  // what the kernel takes with STP

std::string doing(const char* what, const std::string& name) {
    return fmt::format("{} bridge '{}'", what, name);
}

void require_name(const std::string& name) {
    const auto wrong = [](char c) { return c == '/' || c == '%' || c == ':' || (c >= 0 && c <= ' ') || c == 0x7f; };
    if (!name.empty() && name.size() < IFNAMSIZ && name != "." && name != ".." && std::ranges::none_of(name, wrong))
        return;
    throw Error{Code::invalid_xml,
                fmt::format("'{}' cannot be the name of a bridge: it has 1 to {} bytes and no '/', '%', ':' or blank",
                            name, IFNAMSIZ - 1)};
}

/// libnl 3.7 has no setters for what a bridge is.
Message link_request(int type, int flags, int index, unsigned change, unsigned state) {
    Message message{nlmsg_alloc_simple(type, NLM_F_REQUEST | flags)};
    if (!message) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    struct ifinfomsg header{};
    header.ifi_family = AF_UNSPEC;
    header.ifi_index = index;
    header.ifi_change = change;
    header.ifi_flags = state;
    check(nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO), "writing a netlink message");
    return message;
}

template <class Fill>
void put_bridge_data(nl_msg* message, Fill fill) {
    nlattr* info = nla_nest_start(message, IFLA_LINKINFO);
    nla_put_string(message, IFLA_INFO_KIND, "bridge");
    nlattr* data = nla_nest_start(message, IFLA_INFO_DATA);
    fill(message);
    nla_nest_end(message, data);
    nla_nest_end(message, info);
}

/// In the kernel's hundredths of a second.
std::uint32_t delay_of(const BridgeSetting& setting) {
    const auto longest = std::min<std::uint32_t>(setting.delay, UINT32_MAX / 100);
    return (setting.stp ? std::clamp(longest, shortest_delay, longest_delay) : longest) * 100;
}

Address binary_of(const Ip& ip, unsigned prefix) {
    Address address{nl_addr_build(ip.v6 ? AF_INET6 : AF_INET, ip.bytes.data(), ip.bits() / 8)};
    if (!address) throw Error{Code::limits_exceeded, "no memory for an address"};
    nl_addr_set_prefixlen(address.get(), static_cast<int>(prefix));
    return address;
}

/// One bridge in one namespace, as changes see it.
class Editor {
public:
    Editor(nl_sock* socket, std::string name) : socket_{socket}, name_{std::move(name)} {}

    /// With its address from the start, the kernel does not make it follow those of its ports.
    void create(const BridgeSetting& setting) {
        Message request = link_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0, 0);
        nla_put_string(request.get(), IFLA_IFNAME, name_.c_str());
        if (setting.mac != MacAddress{}) nla_put(request.get(), IFLA_ADDRESS, setting.mac.size(), setting.mac.data());
        put_bridge_data(request.get(), [&setting](nl_msg* message) {
            nla_put_u32(message, IFLA_BR_FORWARD_DELAY, delay_of(setting));
            nla_put_u32(message, IFLA_BR_STP_STATE, setting.stp);
        });
        const int status = nl_send_sync(socket_, request.release());
        if (status == -NLE_EXIST)
            throw Error{Code::already_exists, fmt::format("a network device '{}' exists already; choose another "
                                                          "<bridge name=> or remove the device",
                                                          name_)};
        if (status == -NLE_OPNOTSUPP)
            throw Error{Code::unsupported, fmt::format("making bridge '{}': this kernel has no bridges", name_)};
        check(status, doing("making", name_));
        index_ = static_cast<int>(::if_nametoindex(name_.c_str()));
        if (!index_) throw Error{Code::hypervisor_failed, fmt::format("bridge '{}' went away at once", name_)};
    }
    void take(int index) { index_ = index; }
    int index() const { return index_; }

    /// The kernel takes a length as given by hand only when it changes it, so it is not told at creation.
    void set_link(bool up, std::uint32_t mtu, const MacAddress* mac) {
        Message request = link_request(RTM_SETLINK, 0, index_, up ? IFF_UP : 0, up ? IFF_UP : 0);
        if (mtu) nla_put_u32(request.get(), IFLA_MTU, mtu);
        if (mac) nla_put(request.get(), IFLA_ADDRESS, mac->size(), mac->data());
        const int status = nl_send_sync(socket_, request.release());
        if (mtu && (status == -NLE_INVAL || status == -NLE_RANGE))
            throw Error{Code::unsupported_configuration,
                        fmt::format("bridge '{}' cannot have an MTU of {} bytes", name_, mtu)};
        check(status, doing("setting up", name_));
    }
    void set_stp(bool stp) { set_bridge(IFLA_BR_STP_STATE, stp); }
    void set_delay(std::uint32_t delay) { set_bridge(IFLA_BR_FORWARD_DELAY, delay); }

    /// Guests are neither believed as routers nor asked whether an address is theirs.
    void set_ipv6(bool on) {
        const auto folder = fmt::format("net/ipv6/conf/{}/", name_);
        for (const auto* setting : {"accept_ra", "autoconf", "accept_dad"}) write_setting(folder + setting, "0");
        write_setting(folder + "disable_ipv6", on ? "0" : "1");
    }

    void add(const IpNet& net, bool anew) {
        const auto object = object_of(net);
        const int status = rtnl_addr_add(socket_, object.get(), NLM_F_CREATE | (anew ? NLM_F_EXCL : NLM_F_REPLACE));
        if (status == -NLE_OPNOTSUPP || status == -NLE_AF_NOSUPPORT)
            throw Error{Code::unsupported_configuration,
                        fmt::format("giving bridge '{}' the address {}: this kernel has no {}", name_, net.text(),
                                    net.address.v6 ? "IPv6" : "IPv4")};
        check(status, fmt::format("giving bridge '{}' the address {}", name_, net.text()));
    }
    void remove(const IpNet& net) {
        const auto object = object_of(net);
        const int status = rtnl_addr_delete(socket_, object.get(), 0);
        if (status != -NLE_NOADDR && status != -NLE_OBJ_NOTFOUND)
            check(status, fmt::format("taking the address {} from bridge '{}'", net.text(), name_));
    }
    /// One that is there already on this bridge is no error.
    void add(const BridgeRoute& route) {
        const auto object = object_of(route);
        int status = rtnl_route_add(socket_, object.get(), NLM_F_CREATE | NLM_F_EXCL);
        if (status == -NLE_EXIST && rtnl_route_delete(socket_, object.get(), 0) >= 0)
            status = rtnl_route_add(socket_, object.get(), NLM_F_CREATE | NLM_F_EXCL);
        if (status == -NLE_EXIST)
            throw Error{Code::unsupported_configuration,
                        fmt::format("the host has a route to {} with metric {} already; the network's cannot be added",
                                    route.destination.text(), route.metric)};
        check(status, fmt::format("adding the route to {} by {} on bridge '{}'", route.destination.text(),
                                  route.gateway.text(), name_));
    }
    void remove(const BridgeRoute& route) {
        const auto object = object_of(route);
        const int status = rtnl_route_delete(socket_, object.get(), 0);
        if (status != -NLE_OBJ_NOTFOUND && status != -NLE_NOADDR)
            check(status, fmt::format("removing the route to {} from bridge '{}'", route.destination.text(), name_));
    }

private:
    void set_bridge(int attribute, std::uint32_t value) {
        Message request = link_request(RTM_NEWLINK, 0, index_, 0, 0);
        put_bridge_data(request.get(), [=](nl_msg* message) { nla_put_u32(message, attribute, value); });
        check(nl_send_sync(socket_, request.release()), doing("changing", name_));
    }
    AddressObject object_of(const IpNet& net) const {
        AddressObject object{rtnl_addr_alloc()};
        if (!object) throw Error{Code::limits_exceeded, "no memory for an address"};
        rtnl_addr_set_ifindex(object.get(), index_);
        rtnl_addr_set_local(object.get(), binary_of(net.address, net.prefix).get());
        constexpr unsigned no_broadcast = 31;
        if (net.address.v6)
            rtnl_addr_set_flags(object.get(), IFA_F_NODAD);
        else if (net.prefix < no_broadcast)
            rtnl_addr_set_broadcast(object.get(), binary_of(net.last(), net.address.bits()).get());
        return object;
    }
    RouteObject object_of(const BridgeRoute& route) const {
        RouteObject object{rtnl_route_alloc()};
        rtnl_nexthop* hop = rtnl_route_nh_alloc();
        if (!object || !hop) throw Error{Code::limits_exceeded, "no memory for a route"};
        rtnl_route_set_family(object.get(), route.destination.address.v6 ? AF_INET6 : AF_INET);
        rtnl_route_set_table(object.get(), RT_TABLE_MAIN);
        rtnl_route_set_protocol(object.get(), RTPROT_STATIC);
        rtnl_route_set_priority(object.get(), route.metric);
        const auto to = route.destination.network();
        rtnl_route_set_dst(object.get(), binary_of(to.address, to.prefix).get());
        rtnl_route_nh_set_ifindex(hop, index_);
        rtnl_route_nh_set_gateway(hop, binary_of(route.gateway, route.gateway.bits()).get());
        rtnl_route_add_nexthop(object.get(), hop);
        return object;
    }

    nl_sock* socket_;
    std::string name_;
    int index_ = 0;
};

template <class T>
bool among(const std::vector<T>& list, const T& one) {
    return std::ranges::find(list, one) != list.end();
}

/// `strict`: the first failure ends it; otherwise all that can be done is done.
void apply(Editor& bridge, const BridgeSetting& before, const BridgeSetting& after, bool strict) {
    const auto step = [strict](auto work) {
        try {
            work();
        } catch (const Error&) {
            if (strict) throw;
        }
    };
    if (before.stp != after.stp) step([&] { bridge.set_stp(after.stp); });
    if (delay_of(before) != delay_of(after)) step([&] { bridge.set_delay(delay_of(after)); });
    const auto* mac = before.mac != after.mac && after.mac != MacAddress{} ? &after.mac : nullptr;
    const auto mtu = before.mtu != after.mtu ? (after.mtu ? after.mtu : default_mtu) : 0;
    if (mac || mtu) step([&] { bridge.set_link(false, mtu, mac); });
    bool removed = before.ipv6 != after.ipv6;
    for (const auto& route : before.routes)
        if (!among(after.routes, route)) step([&] { bridge.remove(route); });
    for (const auto& address : before.addresses) {
        if (among(after.addresses, address)) continue;
        step([&] { bridge.remove(address); });
        removed = true;
    }
    if (before.ipv6 != after.ipv6) step([&] { bridge.set_ipv6(after.ipv6); });
    // With an address the kernel may drop others of its network, and routes by them; they are given once more.
    for (const auto& address : after.addresses)
        if (removed || !among(before.addresses, address)) step([&] { bridge.add(address, false); });
    for (const auto& route : after.routes)
        if (removed || !among(before.routes, route)) step([&] { bridge.add(route); });
}

bool is_bridge(rtnl_link* link) {
    const char* type = rtnl_link_get_type(link);
    return type && std::strcmp(type, "bridge") == 0;
}

LinkObject find_that(nl_sock* socket, const std::string& name, int index) {
    if (index <= 0) return nullptr;
    LinkObject link = find_link(socket, index, name);
    return link && name == rtnl_link_get_name(link.get()) && is_bridge(link.get()) ? std::move(link) : nullptr;
}

}  // namespace

BridgeSetting bridge_setting(const NetworkConfig& config) {
    BridgeSetting setting;
    if (config.bridge) {
        setting.name = config.bridge->name;
        setting.stp = config.bridge->stp.value_or(true);
        setting.delay = config.bridge->delay.value_or(0);
    }
    if (!config.mac.empty()) setting.mac = parse_mac(config.mac);
    setting.mtu = config.mtu.value_or(0);
    setting.ipv6 = config.ipv6.value_or(false);
    for (const auto& ip : config.ips) {
        setting.addresses.push_back(net_of(ip));
        setting.ipv6 |= setting.addresses.back().address.v6;
    }
    for (const auto& route : config.routes) {
        const auto to = net_of(route);
        const auto gateway = Ip::parse(route.gateway);
        if (!gateway || gateway->v6 != to.address.v6)
            throw Error{Code::invalid_xml, fmt::format("the gateway '{}' of the route to {} is no {} address",
                                                       route.gateway, to.text(), to.address.v6 ? "IPv6" : "IPv4")};
        setting.routes.push_back({to.network(), *gateway, route.metric.value_or(1)});
    }
    return setting;
}

int make_bridge(const BridgeSetting& setting) {
    require_name(setting.name);
    const Socket socket = connect_route();
    Editor bridge{socket.get(), setting.name};
    bridge.create(setting);
    try {
        bridge.set_ipv6(setting.ipv6);
        for (const auto& address : setting.addresses) bridge.add(address, true);
        bridge.set_link(true, setting.mtu, nullptr);
        for (const auto& route : setting.routes) bridge.add(route);
    } catch (const Error&) {
        try {
            remove_bridge(setting.name, bridge.index());
        } catch (const Error&) {
            // What was in the way first is what has to be told.
        }
        throw;
    }
    return bridge.index();
}

void change_bridge(int index, const BridgeSetting& before, const BridgeSetting& after) {
    if (before.name != after.name)
        throw Error{
            Code::unsupported_configuration,
            fmt::format("bridge '{}' cannot be renamed to '{}' while the network is active", before.name, after.name)};
    if (before == after) return;
    const Socket socket = connect_route();
    if (!find_that(socket.get(), before.name, index))
        throw Error{Code::invalid_state,
                    fmt::format("bridge '{}' is gone; stop the network and start it again", before.name)};
    Editor bridge{socket.get(), before.name};
    bridge.take(index);
    try {
        apply(bridge, before, after, true);
    } catch (const Error&) {
        apply(bridge, after, before, false);
        throw;
    }
}

bool bridge_is_there(const std::string& name, int index) {
    const Socket socket = connect_route();
    return find_that(socket.get(), name, index) != nullptr;
}

int find_bridge(const std::string& name) {
    if (name.empty()) return 0;
    const Socket socket = connect_route();
    const LinkObject link = find_link(socket.get(), 0, name);
    return link && is_bridge(link.get()) ? rtnl_link_get_ifindex(link.get()) : 0;
}

bool bridge_has_mac(int index, const MacAddress& mac) {
    const Socket socket = connect_route();
    const LinkObject link = index > 0 ? find_link(socket.get(), index, {}) : nullptr;
    const nl_addr* found = link ? rtnl_link_get_addr(link.get()) : nullptr;
    return found && nl_addr_get_len(found) == mac.size() &&
           std::memcmp(nl_addr_get_binary_addr(found), mac.data(), mac.size()) == 0;
}

void remove_bridge(const std::string& name, int index) {
    const Socket socket = connect_route();
    const LinkObject link = find_that(socket.get(), name, index);
    if (!link) return;
    // By its index alone, as the name may be another's by now.
    Message request = link_request(RTM_DELLINK, 0, index, 0, 0);
    const int status = nl_send_sync(socket.get(), request.release());
    if (status != -NLE_NODEV && status != -NLE_OBJ_NOTFOUND) check(status, doing("removing", name));
}

}  // namespace virtbus::network
