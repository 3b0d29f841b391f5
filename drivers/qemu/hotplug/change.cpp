// SPDX-License-Identifier: LGPL-2.1-or-later
// Changing devices that stay: links, passwords, memory; what may be changed of a disk.
#include <fmt/format.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "qemu/hotplug/media.hpp"
#include "qemu/hotplug/plug.hpp"
#include "qemu/json.hpp"

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

Task<> update_interface(CorePtr core, const Interface& before, Interface interface, std::stop_token stop) {
    auto same = interface;
    same.link_state = before.link_state;
    require_same(*core, before, same, fmt::format("interface '{}'", before.mac), "the link state");
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
        co_await update_interface(core, std::get<Interface>(before), *interface, stop);
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
