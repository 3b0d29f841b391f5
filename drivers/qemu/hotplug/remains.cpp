// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/hotplug/remains.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "qemu/hotplug/departure.hpp"

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
