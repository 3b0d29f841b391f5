// SPDX-License-Identifier: LGPL-2.1-or-later
// Changing devices that stay: links, passwords, memory; what may be changed of a disk.
#include <fmt/format.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "qemu/hotplug/media.hpp"
#include "qemu/hotplug/plug.hpp"
#include "qemu/json.hpp"
#include "virtbus/link_mover.hpp"
#include "virtbus/model/device_lists.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

/// Refuses, with the name of the first thing that differs beside what was made equal before.
template <class T>
void require_same(const GuestCore& core, const T& before, const T& now, const std::string& who, const char* possible) {
    if (before == now) return;
    throw Error{Code::unsupported,
                fmt::format("{}: of {} only {} can be changed while the machine runs", core.who(), who, possible)};
}

bool removable(const Disk& disk) {
    return disk.device == DiskDevice::cdrom || disk.device == DiskDevice::floppy;
}

// ---- disks

Task<> update_disk(CorePtr core, Known known, const Disk& before, Disk disk, DeviceRequest& request,
                   std::stop_token stop) {
    auto same = disk;
    same.source = before.source;
    same.type = before.type;
    same.backing_store = before.backing_store;
    same.target.tray = before.target.tray;
    if (same.driver && before.driver) same.driver->type = before.driver->type;
    const auto who = fmt::format("disk '{}'", disk.target.dev);
    if (!removable(before)) require_same(*core, before, disk, who, "nothing");
    require_same(*core, before, same, who, "the medium");
    if (before.source == disk.source && before.type == disk.type) co_return;
    co_await change_medium(core, std::move(known), std::move(disk), request.resources, request.force, std::move(stop));
}

// ---- the others

/// What its network has made of the running one is not in a definition.
void keep_from_network(Interface& interface, const Interface& before) {
    const auto named = [](const Interface& one) { return one.source ? one.source->network : std::string{}; };
    if (interface.type != InterfaceType::network || before.type != InterfaceType::network) return;
    if (!interface.mtu) interface.mtu = before.mtu;
    if (!interface.source || !before.source || named(interface) != named(before) ||
        interface.source->portgroup != before.source->portgroup)
        return;
    interface.source = before.source;
    const auto keep = [](auto& now, const auto& was) {
        if (!now) now = was;
    };
    keep(interface.managed, before.managed);
    keep(interface.trust_guest_rx_filters, before.trust_guest_rx_filters);
    keep(interface.virtual_port, before.virtual_port);
    keep(interface.vlan, before.vlan);
    keep(interface.port_isolated, before.port_isolated);
    keep(interface.bandwidth, before.bandwidth);
}

/// Those that the host's side alone has to do with.
void take_place(Interface& interface, const Interface& other) {
    interface.type = other.type;
    interface.source = other.source;
    interface.virtual_port = other.virtual_port;
    interface.vlan = other.vlan;
    interface.port_isolated = other.port_isolated;
    interface.bandwidth = other.bandwidth;
    interface.trust_guest_rx_filters = other.trust_guest_rx_filters;
    interface.filterref = other.filterref;
}

/// A machine that was told its MTU keeps it.
Interface moved(const Interface& before, const Interface& wanted, Link link) {
    auto now = link.interface ? std::move(*link.interface) : wanted;
    now.info = before.info;
    now.mtu = before.mtu;
    now.target = before.target;
    now.link_state = before.link_state;
    return now;
}

Task<Interface> move_link(CorePtr core, const Interface& before, Interface interface, Resources& resources) {
    auto* const mover = dynamic_cast<LinkMover*>(&resources);
    if (!mover)
        throw Error{Code::unsupported, fmt::format("{}: interface '{}' cannot be put elsewhere while the machine runs",
                                                   core->who(), before.mac)};
    LinkRequest request;
    request.domain_uuid = core->config.uuid;
    request.domain_name = core->config.name;
    request.interface = interface;
    request.interface.info = before.info;
    request.interface.link_state = before.link_state;
    request.interface.target = before.target;
    if (!request.interface.mtu) request.interface.mtu = before.mtu;
    co_return moved(before, interface, co_await mover->move_link(std::move(request)));
}

Task<> update_interface(CorePtr core, Interface before, Interface interface, Resources& resources,
                        std::stop_token stop) {
    keep_from_network(interface, before);
    if (!interface.target || interface.target->dev.empty()) interface.target = before.target;
    auto same = interface;
    same.link_state = before.link_state;
    take_place(same, before);
    require_same(*core, before, same, fmt::format("interface '{}'", before.mac),
                 "the link state, the filter, the bridge or network and what that does with it");
    same = interface;
    same.link_state = before.link_state;
    if (!(same == before)) {
        auto now = co_await move_link(core, before, interface, resources);
        if (const auto place = find_alias(core->config.devices, before.info.alias))
            core->config.devices.interfaces[place->number] = now;
        core->tell_config();
        before = std::move(now);
    }
    if (interface.link_state == before.link_state) co_return;
    co_await core->open_monitor().execute("set_link",
                                          json{{"name", before.info.alias}, {"up", interface.link_state != "down"}},
                                          core->verb_deadline(), stop);
    if (const auto place = find_alias(core->config.devices, before.info.alias))
        core->config.devices.interfaces[place->number].link_state = interface.link_state;
    core->tell_config();
}

Task<> update_graphics(CorePtr core, Graphics graphics, std::stop_token stop) {
    auto& all = core->config.devices.graphics;
    const auto found = std::ranges::find(all, graphics.type, &Graphics::type);
    if (found == all.end() || (graphics.type != GraphicsType::vnc && graphics.type != GraphicsType::spice))
        throw Error{Code::unsupported,
                    fmt::format("{}: only the passwords of VNC and SPICE displays can be changed while "
                                "the machine runs",
                                core->who())};
    auto same = graphics;
    same.password = found->password;
    same.password_valid_to = found->password_valid_to;
    same.connected = found->connected;
    same.port = found->port;
    same.tls_port = found->tls_port;
    same.autoport = found->autoport;
    if (same.listens.empty() || graphics.listen.empty()) {
        same.listens = found->listens;
        same.listen = found->listen;
    }
    require_same(*core, *found, same, fmt::format("the {} display", word(graphics.type)), "the password");
    const std::string protocol{word(graphics.type)};
    if (graphics.password != found->password || graphics.connected != found->connected) {
        json password{{"protocol", protocol}, {"password", graphics.password.value_or("")}};
        if (!graphics.connected.empty()) password["connected"] = graphics.connected;
        co_await core->open_monitor().execute("set_password", password, core->verb_deadline(), stop);
    }
    std::string until = "never";
    if (tm time{}; ::strptime(graphics.password_valid_to.c_str(), "%Y-%m-%dT%H:%M:%S", &time))
        until = fmt::format("{}", ::timegm(&time));
    co_await core->open_monitor().execute("expire_password", json{{"protocol", protocol}, {"time", until}},
                                          core->verb_deadline(), stop);
    for (auto& each : core->config.devices.graphics) {
        if (each.type != graphics.type) continue;
        each.password = graphics.password;
        each.password_valid_to = graphics.password_valid_to;
        each.connected = graphics.connected;
    }
    core->tell_config();
}

Task<> set_property(CorePtr core, std::string alias, const char* property, std::uint64_t value, std::stop_token stop) {
    co_await core->open_monitor().execute(
        "qom-set", json{{"path", "/machine/peripheral/" + alias}, {"property", property}, {"value", value}},
        core->verb_deadline(), stop);
}

Task<> update_balloon(CorePtr core, Memballoon balloon, std::stop_token stop) {
    const auto before = core->config.devices.memballoon;
    if (!before || before->model == "none")
        throw Error{Code::no_such_device, fmt::format("{} has no memory balloon", core->who())};
    auto same = balloon;
    same.stats_period = before->stats_period;
    require_same(*core, *before, same, "the memory balloon", "the period of its statistics");
    co_await set_property(core, before->info.alias, "guest-stats-polling-interval", balloon.stats_period.value_or(0),
                          stop);
    core->config.devices.memballoon->stats_period = balloon.stats_period;
    core->tell_config();
}

Task<> update_memory(CorePtr core, const MemoryDevice& before, MemoryDevice memory, std::stop_token stop) {
    auto same = memory;
    same.target.requested = before.target.requested;
    same.target.current = before.target.current;
    require_same(*core, before, same, fmt::format("memory device '{}'", before.info.alias), "the requested size");
    co_await set_property(core, before.info.alias, "requested-size", memory.target.requested.value_or(0), stop);
    if (const auto place = find_alias(core->config.devices, before.info.alias))
        core->config.devices.memories[place->number].target.requested = memory.target.requested;
    core->tell_config();
}

}  // namespace

Task<> update(CorePtr core, Known known, DeviceRequest request, std::stop_token stop) {
    (void)core->open_monitor();
    const auto device = request.device;
    if (const auto* graphics = std::get_if<Graphics>(&device)) {
        co_await update_graphics(core, *graphics, stop);
        co_return;
    }
    if (const auto* balloon = std::get_if<Memballoon>(&device)) {
        co_await update_balloon(core, *balloon, stop);
        co_return;
    }
    const auto* info = find_info(device);
    const auto place = info ? find_alias(core->config.devices, info->alias) : std::nullopt;
    if (!place) throw Error{Code::no_such_device, fmt::format("{} has no such device", core->who())};
    const auto before = device_at(core->config.devices, place->kind, place->number);
    if (const auto* disk = std::get_if<Disk>(&device))
        co_await update_disk(core, known, std::get<Disk>(before), *disk, request, stop);
    else if (const auto* interface = std::get_if<Interface>(&device))
        co_await update_interface(core, std::get<Interface>(before), *interface, request.resources, stop);
    else if (const auto* memory = std::get_if<MemoryDevice>(&device); memory && memory->model == "virtio-mem")
        co_await update_memory(core, std::get<MemoryDevice>(before), *memory, stop);
    else if (!(before == device))
        throw Error{Code::unsupported,
                    fmt::format("{}: nothing of '{}' can be changed while the machine runs", core->who(), info->alias)};
}

Task<> set_memory(CorePtr core, std::uint64_t bytes, std::stop_token stop) {
    const auto& balloon = core->config.devices.memballoon;
    if (!balloon || balloon->model == "none")
        throw Error{
            Code::unsupported,
            fmt::format("{} has no memory balloon, so its memory cannot be changed while it runs", core->who())};
    co_await core->open_monitor().execute("balloon", json{{"value", bytes}}, core->verb_deadline(), stop);
}

}  // namespace virtbus::qemu
