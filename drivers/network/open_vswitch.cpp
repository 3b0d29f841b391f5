// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/open_vswitch.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstring>

#include "network/bridge_vlans.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

using Words = std::vector<std::string>;

/// A value that the program takes as it stands, whatever is in it.
std::string quoted(const std::string& value) {
    std::string out = "\"";
    for (const char c : value) {
        if (static_cast<unsigned char>(c) < ' ')
            throw Error{Code::invalid_xml, "a control character in the parameters of a virtual port"};
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + '"';
}

/// It would be taken for an option or another bridge's port.
void require_plain(const std::string& name) {
    if (name.empty() || name.front() == '-' || name.find_first_of(" \t\n=,/\"'\\") != name.npos)
        throw Error{Code::invalid_xml, fmt::format("'{}' is no name of a bridge or port of Open vSwitch", name)};
}

void add_vlans(Words& words, const Vlan& vlan) {
    const PortVlans vlans = port_vlans(vlan);
    if (vlans.native) words.push_back(fmt::format("tag={}", vlans.native));
    if (vlans.tags.empty() && !vlans.native_tagged) return;
    // Without any the port would be in all.
    words.push_back(fmt::format("trunks={}", vlans.tags.empty() ? fmt::format("{}", vlans.native)
                                                                : fmt::format("{}", fmt::join(vlans.tags, ","))));
    words.emplace_back(!vlans.native         ? "vlan_mode=trunk"
                       : vlans.native_tagged ? "vlan_mode=native-tagged"
                                             : "vlan_mode=native-untagged");
}

void add_identity(Words& words, const LinkRequest& request) {
    const auto add = [&](const char* key, const std::string& value) {
        if (!value.empty()) words.push_back(fmt::format("external-ids:{}={}", key, quoted(value)));
    };
    add("attached-mac", request.interface.mac);
    if (request.interface.virtual_port) {
        add("iface-id", request.interface.virtual_port->interface_id);
        add("port-profile", request.interface.virtual_port->profile_id);
    }
    add("vm-id", request.domain_uuid);
    add("iface-status", "active");
}

/// It takes away policing that others set up on its ports, so it has to do that itself.
void add_policing(Words& words, const BandwidthLimit& limit) {
    constexpr std::uint64_t bits = 8;
    words.push_back(fmt::format("ingress_policing_rate={}", limit.average.value_or(0) * bits));
    if (limit.burst) words.push_back(fmt::format("ingress_policing_burst={}", *limit.burst * bits));
}

}  // namespace

bool is_switch_port(const Interface& interface) {
    if (interface.virtual_port && !interface.virtual_port->type.empty())
        return interface.virtual_port->type == "openvswitch";
    if (!interface.source || interface.source->bridge.empty()) return false;
    const Socket socket = connect_route();
    const LinkObject bridge = find_link(socket.get(), 0, interface.source->bridge);
    const char* type = bridge ? rtnl_link_get_type(bridge.get()) : nullptr;
    return type && std::strcmp(type, "openvswitch") == 0;
}

Words add_port_arguments(const LinkRequest& request, const std::string& tap) {
    const Interface& interface = request.interface;
    const std::string bridge = interface.source ? interface.source->bridge : "";
    require_plain(bridge);
    require_plain(tap);
    // What an earlier guest of that name has left goes with all it had.
    Words words{"--timeout=5", "--", "--if-exists", "del-port", tap, "--", "add-port", bridge, tap};
    if (interface.vlan) add_vlans(words, *interface.vlan);
    if (interface.port_isolated.value_or(false)) words.emplace_back("protected=true");
    words.insert(words.end(), {"--", "set", "Interface", tap});
    add_identity(words, request);
    if (interface.mtu) words.push_back(fmt::format("mtu_request={}", *interface.mtu));
    if (interface.bandwidth && interface.bandwidth->outbound) add_policing(words, *interface.bandwidth->outbound);
    return words;
}

Words remove_port_arguments(const std::string& bridge, const std::string& tap) {
    require_plain(bridge);
    require_plain(tap);
    return {"--timeout=5", "--", "--if-exists", "del-port", bridge, tap};
}

}  // namespace virtbus::network
