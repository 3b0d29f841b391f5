// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/links.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <memory>

#include "network/shaping.hpp"
#include "network/tap.hpp"
#include "network/virtual_function.hpp"

namespace virtbus::network {

namespace {

constexpr std::chrono::seconds removal_patience{30};
constexpr std::string_view tap_key = "tap:";         // tap:<index>:<name>
constexpr std::string_view function_key = "vf:";     // vf:<number>:<vlan>:<mac, 17 characters>:<parent>
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

void require_for_function(const LinkRequest& request) {
    const auto& interface = request.interface;
    if (interface.virtual_port) refuse(request, "virtual ports (802.1Qbh) are not served");
    if (interface.bandwidth) refuse(request, "bandwidth is not limited on a device that the guest drives itself");
    if (interface.vlan && (interface.vlan->tags.size() > 1 || interface.vlan->trunk.value_or(false)))
        refuse(request, "a virtual function takes one VLAN tag");
}

/// What the definition wants of its link and this driver would silently leave out is refused instead.
void require_only_what_is_done(const LinkRequest& request) {
    const auto& interface = request.interface;
    if (interface.type == InterfaceType::network)
        refuse(request, "virtual networks are not served yet; use an interface of type 'bridge', 'ethernet' or 'user'");
    if (interface.type == InterfaceType::hostdev) return require_for_function(request);
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
    if (interface.bandwidth && interface.bandwidth->inbound && interface.bandwidth->inbound->floor)
        refuse(request, "a guaranteed floor of bandwidth is for virtual networks");
    const bool limited = interface.bandwidth && (interface.bandwidth->inbound || interface.bandwidth->outbound);
    if (limited && is_foreign(request)) refuse(request, "bandwidth is not limited on a device that is not managed");
    if (interface.coalesce_rx_frames_max && is_foreign(request))
        refuse(request, "frames are not gathered on a device that is not managed");
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
    if (request.interface.bandwidth && request.interface.bandwidth->outbound)
        limit_outbound(tap.index, tap.name, *request.interface.bandwidth->outbound);
    if (const auto frames = request.interface.coalesce_rx_frames_max) set_coalesced_frames(tap.name, *frames);
    return {std::move(tap.fds), tap.name, fmt::format("{}{}:{}", tap_key, tap.index, tap.name)};
}

std::string text_of(const MacAddress& mac) {
    return fmt::format("{:02x}", fmt::join(mac, ":"));
}

/// The PCI device is given to QEMU elsewhere; what is to do here is the address that the card lets it have.
Link prepared(const LinkRequest& request, const std::string& root) {
    const auto& interface = request.interface;
    const auto* at = interface.source && interface.source->host_address
                         ? std::get_if<HostPciAddress>(&*interface.source->host_address)
                         : nullptr;
    if (!at) throw Error{Code::invalid_xml, "its <source> has no <address type='pci'>"};
    const auto address = fmt::format("{:04x}:{:02x}:{:02x}.{:x}", at->domain, at->bus, at->slot, at->function);
    const auto function = find_virtual_function(root, address);
    if (!function)
        throw Error{
            Code::unsupported_configuration,
            fmt::format("PCI device {} is no virtual function of a network card (SR-IOV), so nobody can set its "
                        "MAC address; use a <hostdev>",
                        address)};
    const auto before = state_of(*function);
    VirtualFunctionState wanted{parse_mac(interface.mac), 0};
    if (interface.vlan && !interface.vlan->tags.empty()) wanted.vlan = interface.vlan->tags[0].id;
    set_state(*function, wanted);
    return {{},
            {},
            fmt::format("{}{}:{}:{}:{}", function_key, function->number, before.vlan, text_of(before.mac),
                        function->parent)};
}

void restore_function(std::string_view key) {
    key.remove_prefix(function_key.size());
    const auto number = [&key] {
        unsigned value = 0;
        const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), value);
        if (error != std::errc{} || end == key.data() + key.size() || *end != ':')
            throw Error{Code::internal, fmt::format("'{}' is no virtual function", key)};
        key.remove_prefix(static_cast<std::size_t>(end - key.data()) + 1);
        return value;
    };
    constexpr std::size_t mac_length = 17;
    VirtualFunction function;
    VirtualFunctionState before;
    function.number = number();
    before.vlan = number();
    if (key.size() < mac_length + 2) throw Error{Code::internal, fmt::format("'{}' is no virtual function", key)};
    before.mac = parse_mac(std::string{key.substr(0, mac_length)});
    function.parent = key.substr(mac_length + 1);
    set_state(function, before);
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
    auto work = [request = std::move(request), root = root_] {
        auto result = std::make_shared<Made>();
        try {
            result->link = request.interface.type == InterfaceType::hostdev ? prepared(request, root)
                           : is_foreign(request)                            ? attached(request)
                                                                            : made(request);
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
    if (undo_key.starts_with(function_key)) {
        co_await workers_.run(
            "giving a virtual function its address back", [undo_key] { restore_function(undo_key); },
            in(removal_patience));
        co_return;
    }
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
