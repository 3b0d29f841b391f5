// SPDX-License-Identifier: LGPL-2.1-or-later
// The places of guests on an active network.
#include <fmt/format.h>

#include <algorithm>

#include "service/networking/virtual_network.hpp"
#include "service/xml/domain_xml.hpp"

namespace virtbus {

namespace {

/// A portgroup that was taken away from under a guest counts for nothing.
Interface with_what_is_left(const Interface& interface, const NetworkConfig& network) {
    try {
        return with_network(interface, network);
    } catch (const Error&) {
        auto without = interface;
        if (without.source) without.source->portgroup.clear();
        return with_network(std::move(without), network);
    }
}

NetworkPort port_for(const LinkRequest& request, std::string id) {
    NetworkPort port;
    port.id = std::move(id);
    port.domain_uuid = request.domain_uuid;
    port.domain_name = request.domain_name;
    port.mac = request.interface.mac;
    return port;
}

/// What the pool gave it once, by what its guest has.
std::string device_of(const Interface& interface) {
    if (!interface.source) return {};
    if (const auto* at =
            interface.source->host_address ? std::get_if<HostPciAddress>(&*interface.source->host_address) : nullptr)
        return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", at->domain, at->bus, at->slot, at->function);
    return interface.source->dev;
}

}  // namespace

Task<Attachment> VirtualNetwork::attach(LinkRequest request, Deadline deadline) {
    const auto live = live_;
    if (!live || live->going)
        throw Error{Code::invalid_state, fmt::format("{} is not active; start it first", words())};
    const auto merged = with_network(request.interface, live->config);
    auto port = port_for(request, xml::random_uuid());
    port.port_group = port_group_of(request.interface, live->config);
    allot(port, merged, live->config, live->table);
    co_return co_await settle(live, std::move(port), std::move(request.interface), merged, deadline);
}

Task<std::optional<Attachment>> VirtualNetwork::attach_again(std::string port_id, LinkRequest request,
                                                             Deadline deadline) {
    const auto live = live_;
    if (!live || live->going) co_return std::nullopt;
    const auto merged = with_what_is_left(request.interface, live->config);
    if (const auto* port = live->table.find(port_id)) {
        Attachment attachment{live, *port, resolved(merged, live->config, *port), {}};
        attachment.shown = shown(request.interface, merged, attachment.resolved, *port);
        co_return attachment;
    }
    auto port = port_for(request, std::move(port_id));
    const auto& groups = live->config.port_groups;
    if (const auto group = request.interface.source->portgroup;
        std::ranges::find(groups, group, &PortGroup::name) != groups.end())
        port.port_group = group;
    port.device = device_of(request.interface);
    try {
        allot(port, merged, live->config, live->table);
    } catch (const Error& e) {
        log(Priority::warning,
            fmt::format("Domain '{}' is connected again without all it asks for: {}", port.domain_name, e.what()));
    }
    co_return co_await settle(live, std::move(port), std::move(request.interface), merged, deadline);
}

/// On record before anything is made for it.
Task<Attachment> VirtualNetwork::settle(LiveNetworkPtr live, NetworkPort port, Interface asked, Interface merged,
                                        Deadline deadline) {
    Attachment attachment{live, port, resolved(merged, live->config, port), {}};
    attachment.shown = shown(std::move(asked), merged, attachment.resolved, port);
    live->table.ports.push_back(port);
    std::exception_ptr error;
    try {
        save_state(*live);
        if (port.class_id != 0) {
            const auto turn = co_await live->driver_lane.enter(nullptr, Lane::Subject::definition);
            if (live_ != live || live->going)
                throw Error{Code::invalid_state, fmt::format("{} was stopped meanwhile", words())};
            co_await live->running->add_class({port.class_id, port.mac, *port.inbound}, deadline);
        }
    } catch (...) {
        error = std::current_exception();
    }
    if (error) {
        co_await release_from(live, port.id);
        std::rethrow_exception(error);
    }
    co_return attachment;
}

void VirtualNetwork::require_on(const Attachment& attachment) const {
    if (live_ != attachment.live || attachment.live->going)
        throw Error{Code::invalid_state, fmt::format("{} was stopped meanwhile; start it first", words())};
}

Task<> VirtualNetwork::release(std::string port_id) {
    const auto live = live_;
    if (live) co_await release_from(live, std::move(port_id));
}

/// The class goes before its number is free for another guest.
Task<> VirtualNetwork::release_from(LiveNetworkPtr live, std::string port_id) {
    const auto* port = live->table.find(port_id);
    if (!port) co_return;
    if (const auto id = port->class_id; id != 0 && live_ == live && !live->going) {
        try {
            const auto turn = co_await live->driver_lane.enter(nullptr, Lane::Subject::definition);
            if (live_ == live && !live->going) co_await live->running->remove_class(id, in(context_.patience.verb));
        } catch (const std::exception& e) {
            log(Priority::warning, fmt::format("A class of its bandwidth could not be removed: {}", e.what()));
        }
    }
    live->table.remove(port_id);
    save_if_live(live);
}

Task<> VirtualNetwork::drop_dead_ports() {
    const auto live = live_;
    if (!live) co_return;
    std::vector<NetworkPort> dead;
    for (const auto& port : live->table.ports)
        if (!context_.guests.has(port.id)) dead.push_back(port);
    for (const auto& port : dead) {
        if (context_.guests.has(port.id)) continue;
        log(Priority::info, fmt::format("The place of domain '{}' is given up: it has no such link", port.domain_name));
        co_await release_from(live, port.id);
    }
}

}  // namespace virtbus
