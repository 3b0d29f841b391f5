// SPDX-License-Identifier: LGPL-2.1-or-later
// Changing devices that stay: media, links, passwords, memory.
#include <fmt/format.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "qemu/hotplug/parts.hpp"
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

// ---- media

Task<> open_tray(CorePtr core, std::string alias, bool force, std::stop_token stop) {
    auto& monitor = core->open_monitor();
    co_await monitor.execute("blockdev-open-tray", json{{"id", alias}, {"force", force}}, core->verb_deadline(), stop);
}

/// A guest that keeps the tray locked is asked for it, and given time to open it.
Task<> take_medium(CorePtr core, std::string alias, bool force, std::stop_token stop) {
    Reply<> moved{core->ports.loop};
    core->departures.emplace("tray " + alias, moved.promise());
    co_await open_tray(core, alias, force, stop);
    bool locked = false;
    try {
        co_await core->open_monitor().execute("blockdev-remove-medium", json{{"id", alias}}, core->verb_deadline(),
                                              stop);
    } catch (const Error& error) {
        if (error.code() != Code::hypervisor_failed || core->is_gone()) throw;
        locked = true;
    }
    if (!locked) co_return;
    try {
        co_await moved.wait(fmt::format("the tray of '{}'", alias), in(core->times.unplug), stop);
    } catch (const Error& error) {
        if (error.code() != Code::timeout) throw;
        throw Error{Code::device_in_use,
                    fmt::format("{}: the guest keeps the tray of '{}' locked; 'force' opens it", core->who(), alias)};
    }
    co_await core->open_monitor().execute("blockdev-remove-medium", json{{"id", alias}}, core->verb_deadline(), stop);
}

Task<> change_medium(CorePtr core, Known known, Disk disk, DeviceRequest& request, std::stop_token stop) {
    const auto alias = disk.info.alias;
    PlugPlan plan;
    plan.without = reduced(core->config, {});
    plan.with = reduced(core->config, {Device{disk}});
    plan.devices = {Device{disk}};
    auto prepared = co_await prepare(core, known, std::move(plan), request.resources);
    auto parts = parts_of_devices(prepared.words)[alias];
    std::vector<std::string> fresh, old;
    for (const auto& set : sets_of(prepared)) fresh.push_back(set.text());
    for (const auto& part : parts)
        if (part.kind != Part::Kind::device && part.kind != Part::Kind::set) fresh.push_back(part.text());
    if (const auto known_parts = core->record.parts.find(alias); known_parts != core->record.parts.end())
        for (const auto& part : known_parts->second)
            if (!part.starts_with("device:")) old.push_back(part);
    core->record.coming = fresh;
    core->tell_config();
    std::exception_ptr failure;
    try {
        co_await send_descriptors(core, prepared);
        std::string node;
        std::vector<Monitor::Answer> answers;
        for (const auto& command : commands_of(prepared.words)) {
            if (command.part.kind == Part::Kind::device)
                node = text(command.arguments, "drive");
            else
                answers.push_back(core->open_monitor().send(command.name, command.arguments));
        }
        for (const auto& answer : answers) co_await answer.get(core->verb_deadline(), stop);
        co_await take_medium(core, alias, request.force, stop);
        if (!node.empty())
            co_await core->open_monitor().execute("blockdev-insert-medium", json{{"id", alias}, {"node-name", node}},
                                                  core->verb_deadline(), stop);
        co_await core->open_monitor().execute("blockdev-close-tray", json{{"id", alias}}, core->verb_deadline(), stop);
    } catch (...) {
        failure = std::current_exception();
    }
    core->record.coming.clear();
    if (failure) {
        if (!core->is_gone()) {
            co_await remove_parts(core, fresh);
            core->tell_config();
        }
        std::rethrow_exception(failure);
    }
    auto& noted = core->record.parts[alias];
    noted = fresh;
    noted.push_back("device:" + alias);
    if (const auto place = find_alias(core->config.devices, alias)) {
        disk.target.tray.clear();
        replace_device(core->config.devices, place->number, Device{std::move(disk)});
    }
    core->tell_config();
    co_await remove_parts(core, old);
}

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
    co_await change_medium(core, std::move(known), std::move(disk), request, std::move(stop));
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
