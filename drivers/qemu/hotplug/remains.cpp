// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/hotplug/remains.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "qemu/helpers/helpers.hpp"
#include "qemu/hotplug/departure.hpp"
#include "virtbus/model/device_lists.hpp"

namespace virtbus::qemu {

using nlohmann::json;

std::vector<std::string> texts(const std::vector<Part>& parts) {
    std::vector<std::string> all;
    for (const auto& part : parts) all.push_back(part.text());
    return all;
}

void log_warning(const GuestCore& core, const std::string& message) {
    core.ports.log.warning(message, {{"DOMAIN", core.config.name}, {"DOMAIN_UUID", core.config.uuid}});
}

namespace {

struct Kept {
    std::string part, why;
};

/// Those that QEMU has not let go of, in their order. A set of descriptors or a shared group that is refused is gone
/// already, or is another's still.
Task<std::vector<Kept>> try_to_remove(CorePtr core, std::vector<std::string> parts) {
    std::vector<std::pair<std::string, Monitor::Answer>> answers;
    std::vector<Kept> kept;
    for (auto i = parts.rbegin(); i != parts.rend(); ++i) {
        const auto removal = removal_of(Part::from_text(*i));
        if (removal.part.kind == Part::Kind::device) continue;
        try {
            answers.emplace_back(*i, core->open_monitor().send(removal.name, removal.arguments));
        } catch (const Error&) {
            co_return kept;  // it is gone, and everything with it
        }
    }
    for (const auto& [part, answer] : answers) {
        try {
            co_await answer.get(core->verb_deadline());
        } catch (const Error& error) {
            const bool known = part.starts_with("object:throttle-group-") || part.starts_with("set:");
            const std::string_view why = error.what();
            // Some devices (usb-redir) take their back end with them.
            const bool gone = why.find("Failed to find node") != why.npos || why.find("not found") != why.npos;
            if (!core->is_gone() && !known && !gone) kept.insert(kept.begin(), {part, error.what()});
        }
    }
    co_return kept;
}

}  // namespace

/// QEMU frees a device some time after its name has gone; what stands behind it is in use until then.
Task<> remove_parts(CorePtr core, std::vector<std::string> parts) {
    constexpr Duration shortest{5}, longest{1000};
    std::vector<Kept> kept;
    for (auto pause = shortest;; pause *= 2) {
        kept = co_await try_to_remove(core, parts);
        if (kept.empty() || pause > longest) break;
        co_await sleep(core->ports.loop, pause);
        parts.clear();
        for (auto& each : kept) parts.push_back(std::move(each.part));
    }
    for (const auto& each : kept) log_warning(*core, fmt::format("{}: {} stays: {}", core->who(), each.part, each.why));
}

Task<> take_back(CorePtr core, std::vector<Part> there, std::vector<Part> sets) {
    std::vector<Part> devices, others = std::move(sets);
    for (auto& part : there) (part.kind == Part::Kind::device ? devices : others).push_back(std::move(part));
    for (const auto& device : devices) core->record.leaving.insert(device.id);
    for (auto i = devices.rbegin(); i != devices.rend(); ++i) {
        Departure departure{core, i->id};
        try {
            co_await core->open_monitor().execute("device_del", json{{"id", i->id}}, core->verb_deadline());
        } catch (const Error&) {
            core->record.leaving.erase(i->id);  // it has not come
            continue;
        }
        if (!co_await departure.wait(in(core->times.unplug), {})) {
            core->record.parts[i->id] = texts(others);
            core->record.parts[i->id].push_back(i->text());
            log_warning(*core, fmt::format("{}: '{}' of an attempt that failed stays until the guest lets go of it",
                                           core->who(), i->id));
            co_return;
        }
    }
    co_await remove_parts(core, texts(others));
}

Task<> grant_for(CorePtr core, std::string alias, UnitGrant grant) {
    if (grant.devices.empty() && grant.memory_locked == 0) co_return;
    core->record.allowed[std::move(alias)] = grant;
    core->tell_config();  // a daemon that ends from here on leaves it to the next one to take this back
    co_await core->ports.units.allow(core->record.unit, core->record.pid, std::move(grant), core->verb_deadline());
}

namespace {

bool is_plugging(const GuestCore& core, const std::string& alias) {
    return std::ranges::any_of(core.plugging, [&](const Device& device) {
        const auto* info = find_info(device);
        return info && info->alias == alias;
    });
}

/// Without those that others need, too.
UnitGrant only_for(const GuestCore& core, const std::string& alias) {
    auto nodes = core.record.allowed.at(alias);
    for (const auto& [other, kept] : core.record.allowed) {
        if (other == alias) continue;
        for (const auto& node : kept.devices) std::erase(nodes.devices, node);
        for (const auto& node : kept.devices) std::erase(nodes.given, node);
    }
    return nodes;
}

Task<> deny_idle_nodes(CorePtr core) {
    std::vector<std::string> idle;
    for (const auto& [alias, nodes] : core->record.allowed)
        if (!alias.empty() && !find_alias(core->config.devices, alias) && !is_plugging(*core, alias))
            idle.push_back(alias);
    for (const auto& alias : idle) {
        if (!core->record.allowed.contains(alias)) continue;
        auto nodes = only_for(*core, alias);
        core->record.allowed.erase(alias);
        try {
            co_await core->ports.units.deny(core->record.unit, std::move(nodes), core->verb_deadline());
        } catch (const Error& error) {
            log_warning(*core, fmt::format("{}: nodes of '{}' stay open to it: {}", core->who(), alias, error.what()));
        }
    }
    if (!idle.empty() && !core->is_gone()) core->tell_config();
}

}  // namespace

Task<> leave_nothing_idle(CorePtr core) {
    co_await end_idle_helpers(core);
    co_await deny_idle_nodes(core);
}

Task<> bring_in(CorePtr core, std::vector<Device> devices, Task<> work) {
    core->plugging = std::move(devices);
    std::exception_ptr failure;
    try {
        co_await work;
    } catch (...) {
        failure = std::current_exception();
    }
    core->plugging.clear();
    if (!core->is_gone()) co_await leave_nothing_idle(core);
    if (failure) std::rethrow_exception(failure);
}

Task<> remove_sockets(CorePtr core, std::vector<std::string> paths) {
    if (paths.empty()) co_return;
    try {
        co_await core->ports.workers.run(
            "removing sockets",
            [paths] {
                struct stat facts{};
                for (const auto& path : paths)
                    if (::lstat(path.c_str(), &facts) == 0 && S_ISSOCK(facts.st_mode)) ::unlink(path.c_str());
            },
            in(Duration{5000}));
    } catch (const Error& error) {
        log_warning(*core, fmt::format("{}: a socket stays: {}", core->who(), error.what()));
    }
}

std::vector<std::string> sockets_of(const Device& device) {
    std::vector<std::string> paths;
    const auto look = [&](ChardevType type, const ChardevBackend& backend) {
        const auto* source = backend.source();
        if (type == ChardevType::unix_socket && source && source->mode == "bind" && !source->path.empty())
            paths.push_back(source->path);
    };
    if (const auto* serial = std::get_if<Serial>(&device)) look(serial->type, serial->backend);
    if (const auto* console = std::get_if<Console>(&device)) look(console->type, console->backend);
    if (const auto* channel = std::get_if<Channel>(&device)) look(channel->type, channel->backend);
    if (const auto* redirdev = std::get_if<Redirdev>(&device)) look(redirdev->type, redirdev->backend);
    return paths;
}

}  // namespace virtbus::qemu
