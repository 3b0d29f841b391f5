// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/link_rules.hpp"

#include <fmt/format.h>

namespace virtbus::network {

std::string described(const LinkRequest& request) {
    return fmt::format("interface {} of domain '{}'", request.interface.mac, request.domain_name);
}

bool is_foreign(const LinkRequest& request) {
    const auto& interface = request.interface;
    return interface.type == InterfaceType::ethernet && interface.target && interface.target->managed == false;
}

[[noreturn]] void refuse(const LinkRequest& request, std::string_view what) {
    throw Error{Code::unsupported, fmt::format("{}: {}", described(request), what)};
}

namespace {

void require_for_function(const LinkRequest& request) {
    const auto& interface = request.interface;
    if (interface.virtual_port && !interface.virtual_port->type.empty())
        refuse(request,
               fmt::format("virtual ports of type '{}' are not served on a device that the guest drives itself",
                           interface.virtual_port->type));
    if (interface.bandwidth && (interface.bandwidth->inbound || interface.bandwidth->outbound))
        refuse(request, "bandwidth is not limited on a device that the guest drives itself");
    if (interface.vlan && (interface.vlan->tags.size() > 1 || interface.vlan->trunk.value_or(false)))
        refuse(request, "a virtual function takes one VLAN tag");
}

/// One without a type says no more than that a switch may be told; a Linux bridge has nobody to tell.
void require_good_port(const LinkRequest& request, InterfaceType type) {
    const auto& interface = request.interface;
    const std::string port = interface.virtual_port ? interface.virtual_port->type : "";
    const bool tagged = interface.vlan && !interface.vlan->tags.empty();
    if (!port.empty() && port != "openvswitch")
        refuse(request, fmt::format("virtual ports of type '{}' are not served; 'openvswitch' is", port));
    if (port == "openvswitch" && type != InterfaceType::bridge)
        refuse(request, "a virtual port of Open vSwitch needs type 'bridge'");
    if (tagged && type == InterfaceType::direct)
        refuse(request, "a macvtap device has no VLAN tags; name a VLAN device in <source dev=>");
    if (tagged && type != InterfaceType::bridge)
        refuse(request, "a VLAN tag is for interfaces that name a bridge or a network");
    if (type == InterfaceType::direct && interface.port_isolated.value_or(false))
        refuse(request, "ports of a bridge can be isolated, and a macvtap device is none; use the mode 'private'");
}

/// Filters are rules of the kernel for ports of its bridges.
void require_good_filter(const Wanted& request, InterfaceType type) {
    if (!request.interface.filterref) return;
    const auto& name = request.interface.filterref->filter;
    if (type == InterfaceType::direct || type == InterfaceType::hostdev)
        refuse(request, fmt::format("network filters such as '{}' are for interfaces on a bridge; its frames go by "
                                    "the kernel's rules",
                                    name));
    if (!request.filter) refuse(request, fmt::format("nobody has said what the network filter '{}' is", name));
    if (type == InterfaceType::ethernet && !is_foreign(request))
        refuse(request, fmt::format("the network filter '{}' rules frames on a bridge, and this device would be on "
                                    "none; use type 'bridge', or name a device that is on one with managed='no'",
                                    name));
}

}  // namespace

void require_only_what_is_done(const Wanted& request) {
    const auto& interface = request.interface;
    const auto type = actual_type(interface);
    if (type == InterfaceType::hostdev) {
        require_good_filter(request, type);
        return require_for_function(request);
    }
    if (type != InterfaceType::bridge && type != InterfaceType::ethernet && type != InterfaceType::direct)
        refuse(request, fmt::format("links of type '{}' are not served; 'network', 'bridge', 'direct', 'ethernet' and "
                                    "'user' are",
                                    word(type)));
    require_good_port(request, type);
    require_good_filter(request, type);
    const bool limited = interface.bandwidth && (interface.bandwidth->inbound || interface.bandwidth->outbound);
    // Its class in the network's bandwidth keeps it.
    const bool kept = limited && interface.bandwidth->class_id;
    if (limited && interface.bandwidth->inbound && interface.bandwidth->inbound->floor && !kept)
        refuse(request, "a guaranteed floor of bandwidth is for virtual networks");
    if (limited && is_foreign(request)) refuse(request, "bandwidth is not limited on a device that is not managed");
    if (interface.coalesce_rx_frames_max && is_foreign(request))
        refuse(request, "frames are not gathered on a device that is not managed");
    if (interface.coalesce_rx_frames_max && type == InterfaceType::direct)
        refuse(request, "frames are not gathered on a macvtap device");
    if (!interface.script.empty() || !interface.downscript.empty())
        refuse(request,
               "scripts are not run; prepare the device beforehand and name it with <target dev=... managed='no'/>");
    if (interface.source && !interface.source->ips.empty())
        refuse(request, "addresses on the host's side are not set; give them to the bridge");
}

}  // namespace virtbus::network
