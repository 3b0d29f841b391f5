// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/hotplug/media.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "qemu/hotplug/departure.hpp"
#include "qemu/hotplug/parts.hpp"
#include "qemu/hotplug/prepare.hpp"
#include "qemu/hotplug/remains.hpp"
#include "qemu/json.hpp"
#include "virtbus/model/device_lists.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

using Parts = std::vector<std::string>;

constexpr std::string_view node_word = "blockdev:", device_word = "device:", set_word = "set:";

/// What stands behind a drive's medium: all but the drive.
Parts behind_medium(const GuestCore& core, const std::string& alias) {
    Parts parts;
    if (const auto known = core.record.parts.find(alias); known != core.record.parts.end())
        for (const auto& part : known->second)
            if (!part.starts_with(device_word)) parts.push_back(part);
    return parts;
}

/// The node that the drive reads; the others are below it and come before it.
std::string top_node(const Parts& parts) {
    for (auto part = parts.rbegin(); part != parts.rend(); ++part)
        if (part->starts_with(node_word)) return part->substr(node_word.size());
    return {};
}

Task<> tell(CorePtr core, const char* command, json arguments, std::stop_token stop) {
    co_await core->open_monitor().execute(command, arguments, core->verb_deadline(), std::move(stop));
}

/// A guest that keeps the tray locked is asked for it, and given time to open it.
Task<> take_medium(CorePtr core, std::string alias, bool force, std::stop_token stop) {
    Departure opening{core, "tray " + alias};
    co_await tell(core, "blockdev-open-tray", {{"id", alias}, {"force", force}}, stop);
    bool locked = false;
    try {
        co_await tell(core, "blockdev-remove-medium", {{"id", alias}}, stop);
    } catch (const Error& error) {
        if (error.code() != Code::hypervisor_failed || core->is_gone()) throw;
        locked = true;
    }
    if (!locked) co_return;
    if (!co_await opening.wait(in(core->times.unplug), stop))
        throw Error{Code::device_in_use,
                    fmt::format("{}: the guest keeps the tray of '{}' locked; 'force' opens it", core->who(), alias)};
    co_await tell(core, "blockdev-remove-medium", {{"id", alias}}, stop);
}

/// Into an open, empty tray, which is closed; no node: it stays empty. Not to be cancelled half way.
Task<> put_medium(CorePtr core, std::string alias, std::string node) {
    if (!node.empty()) co_await tell(core, "blockdev-insert-medium", {{"id", alias}, {"node-name", node}}, {});
    co_await tell(core, "blockdev-close-tray", {{"id", alias}}, {});
}

/// The nodes of the new medium; the name of the one that the drive is to read.
Task<std::string> add_nodes(CorePtr core, Prepared& prepared, std::stop_token stop) {
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
    co_return node;
}

/// The definition and the record follow the drive. What it has no more goes.
Task<> note_medium(CorePtr core, Disk disk, Parts now, Parts before) {
    const auto alias = disk.info.alias;
    now.push_back(std::string{device_word} + alias);
    core->record.parts[alias] = std::move(now);
    if (const auto place = find_alias(core->config.devices, alias)) {
        disk.target.tray.clear();
        replace_device(core->config.devices, place->number, Device{std::move(disk)});
    }
    core->tell_config();
    co_await remove_parts(core, std::move(before));
}

/// The new medium could not be put in, the old one is out.
Task<> put_back(CorePtr core, Disk disk, Parts old) {
    bool empty = false;
    try {
        co_await put_medium(core, disk.info.alias, top_node(old));
    } catch (const Error& error) {
        if (core->is_gone()) co_return;
        core->ports.log.warning(
            fmt::format("{}: the drive '{}' is empty now: {}", core->who(), disk.info.alias, error.what()),
            {{"DOMAIN", core->config.name}, {"DOMAIN_UUID", core->config.uuid}});
        empty = true;
    }
    if (!empty) co_return;
    disk.source.reset();
    disk.backing_store.clear();
    co_await note_medium(core, std::move(disk), {}, std::move(old));
}

Task<> exchange(CorePtr core, Known known, Disk disk, Resources& resources, bool force, std::stop_token stop) {
    const auto alias = disk.info.alias;
    PlugPlan plan;
    plan.without = reduced(core->config, {});
    plan.with = reduced(core->config, {Device{disk}});
    plan.devices = {Device{disk}};
    auto prepared = co_await prepare(core, known, std::move(plan), resources);
    if (!prepared.grant.devices.empty() && !core->record.unit.empty())
        throw Error{Code::unsupported,
                    fmt::format("{}: a medium that QEMU opens itself ({}) can be put in before a start only",
                                core->who(), fmt::join(prepared.grant.devices, ", "))};
    const auto old = behind_medium(*core, alias);
    Parts fresh;
    for (const auto& set : sets_of(prepared)) fresh.push_back(set.text());
    const auto behind = parts_of_devices(prepared.words)[alias];
    for (const auto& part : behind)
        if (const auto word = part.text(); !word.starts_with(device_word) && !word.starts_with(set_word))
            fresh.push_back(word);
    core->record.coming = fresh;
    core->tell_config();
    std::exception_ptr failure;
    bool taken = false;
    try {
        const auto node = co_await add_nodes(core, prepared, stop);
        co_await take_medium(core, alias, force, stop);
        taken = true;
        co_await put_medium(core, alias, node);
    } catch (...) {
        failure = std::current_exception();
    }
    core->record.coming.clear();
    if (!failure) {
        co_await note_medium(core, std::move(disk), std::move(fresh), old);
        co_return;
    }
    if (!core->is_gone()) {
        const auto place = find_alias(core->config.devices, alias);
        if (taken && place) co_await put_back(core, core->config.devices.disks[place->number], old);
        co_await remove_parts(core, std::move(fresh));
        core->tell_config();
    }
    std::rethrow_exception(failure);
}

}  // namespace

Task<> change_medium(CorePtr core, Known known, Disk disk, Resources& resources, bool force, std::stop_token stop) {
    co_await bring_in(core, {Device{disk}}, exchange(core, std::move(known), disk, resources, force, std::move(stop)));
}

}  // namespace virtbus::qemu
