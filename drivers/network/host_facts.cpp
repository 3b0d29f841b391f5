// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/host_facts.hpp"

#include <fmt/format.h>
#include <netlink/addr.h>
#include <netlink/route/addr.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string_view>
#include <tuple>

#include "network/netlink.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

using Cache = std::unique_ptr<nl_cache, Free<nl_cache_free>>;

constexpr int patience = 5;

/// A dump that others' changes spoil is taken anew.
template <class Fill>
Cache dump(const char* what, Fill fill) {
    int status = 0;
    for (int i = 0; i < patience; ++i) {
        nl_cache* cache = nullptr;
        status = fill(&cache);
        if (status >= 0) return Cache{cache};
        if (status != -NLE_DUMP_INTR && status != -NLE_AGAIN) break;
    }
    check(status, fmt::format("reading the {} of the host", what));
    return nullptr;
}

template <class T, class See>
void each(const Cache& cache, See see) {
    for (auto* object = nl_cache_get_first(cache.get()); object; object = nl_cache_get_next(object))
        see(reinterpret_cast<T*>(object));
}

std::optional<IpNet> net_of(const nl_addr* address) {
    if (!address) return std::nullopt;
    const int family = nl_addr_get_family(address);
    if (family != AF_INET && family != AF_INET6) return std::nullopt;
    IpNet net;
    net.address.v6 = family == AF_INET6;
    net.prefix = nl_addr_get_prefixlen(address);
    std::memcpy(net.address.bytes.data(), nl_addr_get_binary_addr(address),
                std::min<std::size_t>(nl_addr_get_len(address), net.address.bytes.size()));
    return net;
}

/// Whoever takes over the default route does it with halves or a few more parts of everything.
bool is_default_or_local(const IpNet& net) {
    constexpr unsigned longest_part_v4 = 1, longest_part_v6 = 7;
    constexpr std::uint8_t link_local = 0xfe, link_local_next = 0x80, next_mask = 0xc0;
    if (net.prefix <= (net.address.v6 ? longest_part_v6 : longest_part_v4)) return true;
    return net.address.v6 && net.address.bytes[0] == link_local &&
           (net.address.bytes[1] & next_mask) == link_local_next;
}

class Reader {
public:
    HostNetworks read() {
        read_links();
        read_addresses();
        read_routes();
        return std::move(host_);
    }

private:
    void read_links() {
        const auto links =
            dump("devices", [this](nl_cache** c) { return rtnl_link_alloc_cache(socket_.get(), AF_UNSPEC, c); });
        each<rtnl_link>(links, [this](rtnl_link* link) {
            const char* type = rtnl_link_get_type(link);
            const std::string_view kind = type ? type : "";
            names_[rtnl_link_get_ifindex(link)] = rtnl_link_get_name(link);
            host_.links.push_back({rtnl_link_get_name(link), kind == "bridge" || kind == "openvswitch"});
        });
    }
    void read_addresses() {
        const auto addresses =
            dump("addresses", [this](nl_cache** c) { return rtnl_addr_alloc_cache(socket_.get(), c); });
        each<rtnl_addr>(addresses, [this](rtnl_addr* object) {
            const auto local = net_of(rtnl_addr_get_local(object));
            const auto peer = net_of(rtnl_addr_get_peer(object));
            const auto device = name_of(rtnl_addr_get_ifindex(object));
            // Of a point-to-point address the prefix is that of the other end.
            if (local) add(peer ? IpNet{local->address, local->address.bits()} : *local, device);
            if (peer) add(*peer, device);
        });
    }
    /// One by one, as a router's tables are large.
    void read_routes() {
        int status = 0;
        for (int i = 0; i < patience; ++i) {
            nl_socket_modify_cb(socket_.get(), NL_CB_VALID, NL_CB_CUSTOM, see_route, this);
            status = nl_rtgen_request(socket_.get(), RTM_GETROUTE, AF_UNSPEC, NLM_F_DUMP);
            if (status >= 0) status = nl_recvmsgs_default(socket_.get());
            if (status != -NLE_DUMP_INTR && status != -NLE_AGAIN) break;
        }
        check(status, "reading the routes of the host");
    }
    static int see_route(nl_msg* message, void* self) {
        rtnl_route* parsed = nullptr;
        if (rtnl_route_parse(nlmsg_hdr(message), &parsed) < 0) return NL_SKIP;
        const std::unique_ptr<rtnl_route, Free<rtnl_route_put>> route{parsed};
        static_cast<Reader*>(self)->see(route.get());
        return NL_OK;
    }
    /// The main table, and what the host takes for itself; tables that rules lead to are others' business.
    void see(rtnl_route* route) {
        const auto table = rtnl_route_get_table(route);
        const auto type = rtnl_route_get_type(route);
        const bool counts =
            (table == RT_TABLE_MAIN && type == RTN_UNICAST) || (table == RT_TABLE_LOCAL && type == RTN_LOCAL);
        const auto destination = net_of(rtnl_route_get_dst(route));
        if (!counts || !destination) return;
        rtnl_nexthop* hop = rtnl_route_get_nnexthops(route) > 0 ? rtnl_route_nexthop_n(route, 0) : nullptr;
        add(*destination, hop ? name_of(rtnl_route_nh_get_ifindex(hop)) : std::string{});
    }
    std::string name_of(int index) const {
        const auto found = names_.find(index);
        return found == names_.end() ? std::string{} : found->second;
    }
    void add(const IpNet& net, const std::string& device) {
        if (is_default_or_local(net)) return;
        const auto range = net.network();
        if (seen_.emplace(range.address, range.prefix, device).second) host_.routes.push_back({range, device});
    }

    Socket socket_ = connect_route();
    std::map<int, std::string> names_;
    std::set<std::tuple<Ip, unsigned, std::string>> seen_;
    HostNetworks host_;
};

std::string named(const NetworkConfig& config) {
    return fmt::format("network '{}'", config.name);
}

const HostLink* find_named(const HostNetworks& host, const std::string& name) {
    const auto found = std::ranges::find(host.links, name, &HostLink::name);
    return found == host.links.end() ? nullptr : &*found;
}

void require_device(const NetworkConfig& config, const HostNetworks& host, const std::string& name) {
    if (name.empty() || find_named(host, name)) return;
    throw Error{Code::unsupported_configuration,
                fmt::format("{}: <forward> names the device '{}', which this host does not have", named(config), name)};
}

void require_forward_devices(const NetworkConfig& config, const HostNetworks& host) {
    if (!config.forward) return;
    require_device(config, host, config.forward->dev);
    for (const auto& interface : config.forward->interfaces) require_device(config, host, interface.dev);
    for (const auto& card : config.forward->cards) require_device(config, host, card.dev);
}

void require_host_bridge(const NetworkConfig& config, const HostNetworks& host) {
    const auto& name = config.bridge->name;
    const auto* link = find_named(host, name);
    if (link && link->bridge) return;
    throw Error{Code::unsupported_configuration,
                link ? fmt::format("{}: '{}' is a network device of this host, but no bridge", named(config), name)
                     : fmt::format("{}: this host has no bridge '{}'; make it first", named(config), name)};
}

}  // namespace

HostNetworks look_at_host() {
    return Reader{}.read();
}

void require_free_ranges(const NetworkConfig& config, const HostNetworks& host) {
    const auto bridge = config.bridge ? config.bridge->name : std::string{};
    const auto refuse = [&config](const char* what, const IpNet& wanted, const HostRoute& found) {
        throw Error{
            Code::unsupported_configuration,
            fmt::format("{}: its {} {} is in use on this host already: {} is reached through '{}'; choose another",
                        named(config), what, wanted.text(), found.destination.text(),
                        found.device.empty() ? "several devices" : found.device)};
    };
    for (const auto& route : host.routes) {
        if (!bridge.empty() && route.device == bridge) continue;
        for (const auto& ip : config.ips)
            if (const auto range = virtbus::net_of(ip).network(); range.overlaps(route.destination))
                refuse("range", range, route);
        // One that is wider or narrower has its own meaning beside the host's.
        for (const auto& wanted : config.routes)
            if (const auto to = virtbus::net_of(wanted).network(); to == route.destination)
                refuse("route to", to, route);
    }
}

void require_no_conflict(const NetworkConfig& config, const HostNetworks& host) {
    require_forward_devices(config, host);
    const auto mode = forward_mode(config);
    if (!is_virtual(mode)) {
        if (mode == ForwardMode::bridge && config.bridge && !config.bridge->name.empty())
            require_host_bridge(config, host);
        return;
    }
    if (config.bridge && find_named(host, config.bridge->name))
        throw Error{Code::already_exists,
                    fmt::format("{}: a network device '{}' exists already; choose another <bridge name=> or remove the "
                                "device",
                                named(config), config.bridge->name)};
    require_free_ranges(config, host);
}

}  // namespace virtbus::network
