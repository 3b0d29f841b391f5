// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/bridge_vlans.hpp"

#include <fmt/format.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>

#include <algorithm>

#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

constexpr std::uint16_t first_tag = 1, last_tag = 4094;

/// libnl 3.7 has no getter for it.
int note_filtering(nl_msg* message, void* result) {
    nlattr *top[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1], *data[IFLA_BR_MAX + 1];
    const bool found = nlmsg_parse(nlmsg_hdr(message), sizeof(ifinfomsg), top, IFLA_MAX, nullptr) == 0 &&
                       top[IFLA_LINKINFO] && nla_parse_nested(info, IFLA_INFO_MAX, top[IFLA_LINKINFO], nullptr) == 0 &&
                       info[IFLA_INFO_DATA] &&
                       nla_parse_nested(data, IFLA_BR_MAX, info[IFLA_INFO_DATA], nullptr) == 0 &&
                       data[IFLA_BR_VLAN_FILTERING] && nla_get_u8(data[IFLA_BR_VLAN_FILTERING]) != 0;
    if (found) *static_cast<bool*>(result) = true;
    return NL_OK;
}

bool filters_vlans(const std::string& bridge) {
    const Socket socket = connect_route();
    ifinfomsg header{};
    Message message{nlmsg_alloc_simple(RTM_GETLINK, NLM_F_REQUEST)};
    if (!message) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO);
    nla_put_string(message.get(), IFLA_IFNAME, bridge.c_str());
    bool filtering = false;
    nl_socket_modify_cb(socket.get(), NL_CB_VALID, NL_CB_CUSTOM, note_filtering, &filtering);
    const auto doing = fmt::format("looking at bridge '{}'", bridge);
    check(nl_send_auto(socket.get(), message.get()), doing);
    check(nl_recvmsgs_default(socket.get()), doing);
    return filtering;
}

void put_vlan(nl_msg* message, std::uint16_t tag, unsigned flags) {
    bridge_vlan_info info{};
    info.vid = tag;
    info.flags = static_cast<std::uint16_t>(flags);
    nla_put(message, IFLA_BRIDGE_VLAN_INFO, sizeof info, &info);
}

Message port_message(int type, int index) {
    ifinfomsg header{};
    header.ifi_family = AF_BRIDGE;
    header.ifi_index = index;
    Message message{nlmsg_alloc_simple(type, NLM_F_REQUEST)};
    if (!message) throw Error{Code::limits_exceeded, "no memory for a netlink message"};
    nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO);
    return message;
}

/// A new port is in the bridge's own VLAN.
Message forget_request(int index) {
    Message message = port_message(RTM_DELLINK, index);
    nlattr* list = nla_nest_start(message.get(), IFLA_AF_SPEC);
    put_vlan(message.get(), first_tag, BRIDGE_VLAN_INFO_RANGE_BEGIN);
    put_vlan(message.get(), last_tag, BRIDGE_VLAN_INFO_RANGE_END);
    nla_nest_end(message.get(), list);
    return message;
}

std::uint16_t checked(std::uint32_t tag) {
    if (tag < first_tag || tag > last_tag)
        throw Error{Code::invalid_xml, fmt::format("VLAN tag {}; they are from {} to {}", tag, first_tag, last_tag)};
    return static_cast<std::uint16_t>(tag);
}

}  // namespace

PortVlans port_vlans(const Vlan& vlan) {
    PortVlans out;
    const bool trunk = vlan.trunk.value_or(
        vlan.tags.size() > 1 || std::ranges::any_of(vlan.tags, [](auto& tag) { return !tag.native_mode.empty(); }));
    if (!trunk && vlan.tags.size() > 1)
        throw Error{Code::invalid_xml, "several VLAN tags are a trunk, and it says trunk='no'"};
    for (const auto& tag : vlan.tags) {
        const auto id = checked(tag.id);
        const bool native = !trunk || !tag.native_mode.empty();
        if (native && out.native) throw Error{Code::invalid_xml, "two VLANs are native; one may be"};
        if (native) {
            out.native = id;
            out.native_tagged = tag.native_mode == "tagged";
        } else {
            out.tags.push_back(id);
        }
    }
    return out;
}

Message vlan_request(int index, const PortVlans& vlans) {
    Message message = port_message(RTM_SETLINK, index);
    nlattr* list = nla_nest_start(message.get(), IFLA_AF_SPEC);
    for (const auto tag : vlans.tags) put_vlan(message.get(), tag, 0);
    if (vlans.native)
        put_vlan(message.get(), vlans.native,
                 BRIDGE_VLAN_INFO_PVID | (vlans.native_tagged ? 0U : unsigned{BRIDGE_VLAN_INFO_UNTAGGED}));
    nla_nest_end(message.get(), list);
    return message;
}

void set_port_vlans(nl_sock* socket, int index, const std::string& name, const std::string& bridge,
                    const PortVlans& vlans) {
    if (!filters_vlans(bridge))
        throw Error{
            Code::unsupported_configuration,
            fmt::format("a VLAN tag is asked for, and bridge '{}' does not filter VLANs; 'ip link set dev {} type "
                        "bridge vlan_filtering 1' makes it do so, if the kernel was built with "
                        "CONFIG_BRIDGE_VLAN_FILTERING",
                        bridge, bridge)};
    const auto doing = fmt::format("setting the VLANs of '{}' on bridge '{}'", name, bridge);
    check(nl_send_sync(socket, forget_request(index).release()), doing);
    check(nl_send_sync(socket, vlan_request(index, vlans).release()), doing);
}

}  // namespace virtbus::network
