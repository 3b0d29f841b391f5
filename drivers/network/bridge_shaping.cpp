// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/bridge_shaping.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "network/traffic_control.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

// All of the network, and in it those for whom nothing is kept.
constexpr std::uint32_t whole_class = 1, rest_class = 2, first_port_class = 3, last_class = 0xfffe;
constexpr std::uint64_t least_rate =
    1024;  // where floors leave nothing: others still get a trickle, and all that is idle

/// The rest is what the floors of the classes that are there leave.
void set_rest(const Shaped& bridge, const Rate& whole) {
    std::uint64_t kept = 0;
    for (const auto& each : rate_classes(bridge))
        if (each.id >= first_port_class) kept += each.rate.rate;
    Rate rest = whole;
    rest.rate = whole.rate > kept + least_rate ? whole.rate - kept : least_rate;
    set_rate_class(bridge, {rest_class, whole_class, rest});
}

void require_id(std::uint32_t id) {
    if (id < first_port_class || id > last_class)
        throw Error{Code::internal, fmt::format("class {} of a network's bandwidth; they are from 3 to 65534", id)};
}

}  // namespace

void limit_bridge(int index, const std::string& name, const Bandwidth& bandwidth) {
    const Socket socket = connect_route();
    const Shaped bridge{socket.get(), index, name};
    if (bandwidth.inbound) {
        const Rate whole = rate_of(*bandwidth.inbound, name, "inbound");
        // Classes of guests stay while only numbers change.
        if (!has_root(bridge)) make_root(bridge, rest_class);
        set_rate_class(bridge, {whole_class, 0, whole});
        set_rest(bridge, whole);
    } else {
        remove_root(bridge);
    }
    if (!bandwidth.outbound) return remove_ingress(bridge);
    const Rate out = rate_of(*bandwidth.outbound, name, "outbound");
    limit_ingress(bridge, out, bandwidth.outbound->peak ? out.ceiling : 0);
}

void set_class(int index, const std::string& name, const Bandwidth& network, const PortClass& port) {
    require_id(port.id);
    if (!network.inbound)
        throw Error{
            Code::unsupported_configuration,
            fmt::format("the network of bridge '{}' has no <inbound> bandwidth of which a floor could be kept", name)};
    const Socket socket = connect_route();
    const Shaped bridge{socket.get(), index, name};
    const Rate whole = rate_of(*network.inbound, name, "inbound");
    Rate rate;
    rate.rate = kib_in_bytes(port.limit.floor.value_or(0), "a floor", name);
    if (rate.rate == 0)
        throw Error{Code::invalid_xml, fmt::format("limiting '{}': a guest's class needs a floor above 0", name)};
    rate.ceiling = whole.ceiling;
    const auto mac = parse_mac(port.mac);
    set_rate_class(bridge, {port.id, whole_class, rate});
    set_rest(bridge, whole);
    lead_to_class(bridge, mac, port.id);
}

void remove_class(int index, const std::string& name, std::uint32_t id) {
    require_id(id);
    const Socket socket = connect_route();
    const Shaped bridge{socket.get(), index, name};
    if (!find_link(socket.get(), index, name) || !has_root(bridge)) return;
    forget_filter(bridge, id);
    remove_rate_class(bridge, id);
    for (const auto& each : rate_classes(bridge))
        if (each.id == whole_class) set_rest(bridge, each.rate);
}

void clear_bridge(int index, const std::string&) {
    const Socket socket = connect_route();
    remove_intermediate(socket.get(), index);
}

}  // namespace virtbus::network
