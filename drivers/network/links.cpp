// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/links.hpp"

#include <fmt/format.h>

#include <charconv>
#include <memory>

#include "network/shaping.hpp"
#include "network/tap.hpp"

namespace virtbus::network {

namespace {

constexpr std::chrono::seconds removal_patience{30};
constexpr std::string_view tap_key = "tap:";         // tap:<index>:<name>
constexpr std::string_view foreign_key = "foreign";  // made by somebody else: nothing to undo
constexpr std::string_view generated_prefixes[] = {"vnet", "macvtap", "macvlan"};

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

/// What the definition wants of its link and this driver would silently leave out is refused instead.
void require_only_what_is_done(const LinkRequest& request) {
    const auto& interface = request.interface;
    if (interface.type == InterfaceType::network)
        refuse(request, "virtual networks are not served yet; use an interface of type 'bridge', 'ethernet' or 'user'");
    if (interface.type != InterfaceType::bridge && interface.type != InterfaceType::ethernet)
        refuse(request, fmt::format("links of type '{}' are not served; 'bridge', 'ethernet' and 'user' are",
                                    word(interface.type)));
    if (interface.virtual_port) refuse(request, "virtual ports (Open vSwitch, 802.1Qbg) are not served");
    if (interface.vlan && !interface.vlan->tags.empty()) refuse(request, "VLAN tags on a Linux bridge are not served");
    if (interface.filterref)
        refuse(
            request,
            fmt::format("network filters are not served, and without '{}' the guest would be less confined than asked",
                        interface.filterref->filter));
    if (interface.bandwidth && interface.bandwidth->outbound)
        refuse(request, "limits of what a guest sends (<outbound>) are not served; <inbound> is");
    if (interface.bandwidth && interface.bandwidth->inbound && interface.bandwidth->inbound->floor)
        refuse(request, "a guaranteed floor of bandwidth is for virtual networks");
    if (interface.bandwidth && interface.bandwidth->inbound && is_foreign(request))
        refuse(request, "bandwidth is not limited on a device that is not managed");
    if (!interface.script.empty() || !interface.downscript.empty())
        refuse(request,
               "scripts are not run; prepare the device beforehand and name it with <target dev=... managed='no'/>");
    if (interface.source && !interface.source->ips.empty())
        refuse(request, "addresses on the host's side are not set; give them to the bridge");
}

/// A name that a program generated once is made anew each time, as it may be in use by another guest now.
std::string wanted_name(const Interface& interface) {
    if (!interface.target) return {};
    for (const auto prefix : generated_prefixes)
        if (interface.target->dev.starts_with(prefix)) return {};
    return interface.target->dev;
}

TapRequest tap_request(const LinkRequest& request) {
    const auto& interface = request.interface;
    TapRequest tap;
    tap.name = wanted_name(interface);
    tap.mac = host_mac(parse_mac(interface.mac));
    tap.mtu = interface.mtu.value_or(0);
    tap.queues = request.queues;
    tap.vnet_header = request.vnet_header;
    tap.isolated = interface.port_isolated.value_or(false);
    tap.up = interface.link_state != "down";
    if (interface.type == InterfaceType::bridge) {
        tap.bridge = interface.source ? interface.source->bridge : "";
        if (tap.bridge.empty()) throw Error{Code::invalid_xml, "the definition names no bridge"};
    }
    return tap;
}

Link made(const LinkRequest& request) {
    auto tap = make_tap(tap_request(request));
    // On failure the tap goes with its last descriptor.
    if (request.interface.bandwidth && request.interface.bandwidth->inbound)
        limit_inbound(tap.index, tap.name, *request.interface.bandwidth->inbound);
    return {std::move(tap.fds), tap.name, fmt::format("{}{}:{}", tap_key, tap.index, tap.name)};
}

Link attached(const LinkRequest& request) {
    const auto& name = request.interface.target->dev;
    if (name.empty()) throw Error{Code::invalid_xml, "a device that is not managed must be named with <target dev=>"};
    return {attach_tap(name, request.queues, request.vnet_header).fds, name, std::string{foreign_key}};
}

}  // namespace

Task<Link> TapLinks::open_link(LinkRequest request, Deadline deadline, std::stop_token stop) {
    require_only_what_is_done(request);
    const auto what = "making the link of " + described(request);
    // Shared, so that a link which is made after its waiter has given up is taken down again.
    struct Made {
        std::optional<Link> link;
        ~Made() {
            if (!link || !link->undo_key.starts_with(tap_key)) return;
            int index = 0;
            std::from_chars(link->undo_key.data() + tap_key.size(), link->undo_key.data() + link->undo_key.size(),
                            index);
            try {
                remove_tap(link->ifname, index);
            } catch (const Error&) {
                // It goes with its last descriptor, as a tap that is not persistent does.
            }
        }
    };
    auto work = [request = std::move(request)] {
        auto result = std::make_shared<Made>();
        try {
            result->link = is_foreign(request) ? attached(request) : made(request);
        } catch (const Error& error) {
            throw Error{error.code(), fmt::format("{}: {}", described(request), error.what())};
        }
        return result;
    };
    const auto result = co_await workers_.run(what, std::move(work), deadline, std::move(stop));
    auto link = std::move(*result->link);
    result->link.reset();
    co_return link;
}

Task<> TapLinks::close_link(std::string undo_key) {
    if (undo_key == foreign_key) co_return;
    const auto colon = undo_key.find(':', tap_key.size());
    int index = 0;
    if (undo_key.starts_with(tap_key) && colon != std::string::npos)
        std::from_chars(undo_key.data() + tap_key.size(), undo_key.data() + colon, index);
    if (index <= 0) throw Error{Code::internal, fmt::format("'{}' is no link of this driver", undo_key)};
    const auto name = undo_key.substr(colon + 1);
    auto work = [name, index] { remove_tap(name, index); };
    co_await workers_.run("removing the link " + name, std::move(work), in(removal_patience));
}

}  // namespace virtbus::network
