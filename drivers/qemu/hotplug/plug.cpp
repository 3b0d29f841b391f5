// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/hotplug/plug.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qemu/block/open_images.hpp"
#include "qemu/chipset.hpp"
#include "qemu/hotplug/departure.hpp"
#include "qemu/hotplug/parts.hpp"
#include "qemu/json.hpp"
#include "qemu/live_config.hpp"
#include "qemu/starter.hpp"
#include "qemu/unsupported_parts.hpp"
#include "virtbus/model/console_pair.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

void require_running(const GuestCore& core) {
    if (core.is_gone()) throw Error{Code::hypervisor_failed, fmt::format("{} has ended", core.who())};
}

/// The sandbox was made for what the machine had at its start.
void require_in_sandbox(const GuestCore& core, const CommandLine& line) {
    if (core.record.unit.empty()) return;
    if (line.needs_network && !core.record.network)
        throw Error{
            Code::unsupported,
            fmt::format("{} was started in a sandbox without the network, and this device needs QEMU to have it; "
                        "stored in the definition it has it from the next start on",
                        core.who())};
    for (const auto& node : line.devices)
        if (node != "/dev/urandom" && node != "/dev/random")
            throw Error{Code::unsupported,
                        fmt::format("{} was started in a sandbox without {}, which this device needs; stored in the "
                                    "definition it has it from the next start on",
                                    core.who(), node)};
}

std::vector<std::string> texts(const std::vector<Part>& parts) {
    std::vector<std::string> all;
    for (const auto& part : parts) all.push_back(part.text());
    return all;
}

void log_warning(const GuestCore& core, const std::string& message) {
    core.ports.log.warning(message, {{"DOMAIN", core.config.name}, {"DOMAIN_UUID", core.config.uuid}});
}

/// Sent together; those that did not succeed are left out of the result, and the first failure is kept.
struct Outcome {
    std::vector<Part> there;
    std::exception_ptr failure;
    std::map<std::string, std::string> terminals;  ///< paths of ptys by chardev
};

Task<Outcome> send_all(CorePtr core, std::vector<QmpCommand> commands) {
    std::vector<Monitor::Answer> answers;
    Outcome outcome;
    auto& monitor = core->open_monitor();
    for (const auto& command : commands) answers.push_back(monitor.send(command.name, command.arguments));
    for (std::size_t i = 0; i < answers.size(); ++i) {
        try {
            const auto answer = co_await answers[i].get(core->verb_deadline());
            outcome.there.push_back(commands[i].part);
            if (const auto path = text(answer, "pty"); !path.empty()) outcome.terminals[commands[i].part.id] = path;
        } catch (const Error& error) {
            // Nobody knows whether what was not answered has been done.
            if (error.code() == Code::timeout) outcome.there.push_back(commands[i].part);
            if (!outcome.failure) outcome.failure = std::current_exception();
        }
    }
    co_return outcome;
}

template <class T>
void set_terminal(T& device, const std::map<std::string, std::string>& terminals) {
    const auto found = terminals.find("char" + device.info.alias);
    if (found != terminals.end()) device.backend.make_source().path = found->second;
}

void set_terminals(Device& device, const std::map<std::string, std::string>& terminals) {
    if (auto* serial = std::get_if<Serial>(&device)) set_terminal(*serial, terminals);
    if (auto* channel = std::get_if<Channel>(&device)) set_terminal(*channel, terminals);
    if (auto* console = std::get_if<Console>(&device)) {
        set_terminal(*console, terminals);
        if (console->type == ChardevType::pty && console->backend.source())
            console->tty = console->backend.source()->path;
    }
}

/// Parts that other devices have too, e.g. a group of limits, are there already.
void leave_out_shared(const GuestCore& core, std::vector<QmpCommand>& commands) {
    std::erase_if(commands, [&](const QmpCommand& command) {
        return std::ranges::any_of(core.record.parts, [&](const auto& entry) {
            return std::ranges::find(entry.second, command.part.text()) != entry.second.end();
        });
    });
}

/// What a failed attach has put there goes again. A device the guest has seen goes when the guest lets it.
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

}  // namespace

void note_parts(GuestRecord& record, const CommandLine& line) {
    const auto words = words_of_line(line.argv);
    record.network = line.needs_network;
    record.nodes = highest_node(words);
    record.sets = highest_set(words);
    record.parts.clear();
    for (const auto& [alias, parts] : parts_of_devices(words)) record.parts[alias] = texts(parts);
    note_images(record, line.images, words);
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

namespace {

/// A start may go on without what is 'optional'; somebody who asks for it now wants it.
void require_there(const GuestCore& core, const Device& device, const DomainConfig& opened) {
    const auto* disk = std::get_if<Disk>(&device);
    if (!disk || !disk->source || disk->source->startup_policy != "optional") return;
    const auto place = find_alias(opened.devices, disk->info.alias);
    if (place && opened.devices.disks[place->number].source) return;
    throw Error{Code::unsupported_configuration,
                fmt::format("{}: '{}' for disk '{}' cannot be opened; startupPolicy lets it be missing at a start only",
                            core.who(), disk->source->file + disk->source->dev, disk->target.dev)};
}

/// What a start would refuse.
void require_good_interfaces(const GuestCore& core, const DomainConfig& with, const Capabilities& known) {
    Problems problems;
    check_interfaces(with, known, problems);
    if (!problems.empty())
        throw Error{Code::unsupported_configuration, fmt::format("{}: {}", core.who(), fmt::join(problems, "; "))};
}

}  // namespace

Task<Prepared> prepare(CorePtr core, Known known, PlugPlan plan, Resources& resources) {
    require_good_interfaces(*core, plan.with, *known);
    OpenOptions options;
    options.runtime_folder = core->record.folder + "/guest";
    options.tls_folder = core->ports.folders.config + "/tls";
    auto opened = co_await open_resources(plan.with, resources, core->ports.workers, std::move(options));
    require_running(*core);
    const HelperPrograms programs;
    co_await start_helpers_for(core, plan.with, programs,
                               helper_order(*core, resources, core->verb_deadline(), resources.stop()), opened);
    fill_opened(plan.with, opened);
    for (const auto& device : plan.devices) require_there(*core, device, plan.with);
    opened.first_node = core->record.nodes;
    opened.first_set = core->record.sets;
    Prepared prepared;
    OpenedResources nothing;
    prepared.line = command_line(plan.with, *known, opened, MonitorSocket{});
    const auto base = command_line(plan.without, *known, nothing, MonitorSocket{});
    prepared.words = difference(words_of_line(prepared.line.argv), words_of_line(base.argv));
    require_in_sandbox(*core, prepared.line);
    if (!prepared.line.unread.empty())
        throw Error{Code::unsupported,
                    fmt::format("{}: disk '{}': what lies below an image on a server is not known while the machine "
                                "runs; write the chain, or <backingStore/> when nothing does",
                                core->who(), prepared.line.unread.front().disk)};
    // What opening has shown is in the definition now.
    for (auto& device : plan.devices) {
        const auto place = find_alias(plan.with.devices, find_info(device)->alias);
        if (place) device = device_at(plan.with.devices, place->kind, place->number);
    }
    prepared.devices = std::move(plan.devices);
    core->record.nodes = std::max(core->record.nodes, highest_node(prepared.words));
    core->record.sets = std::max(core->record.sets, highest_set(prepared.words));
    note_images(core->record, prepared.line.images, prepared.words);
    prepared.descriptors = descriptors_of(prepared.words, core->record.sets);
    for (const auto& use : prepared.descriptors) core->record.sets = std::max(core->record.sets, use.set);
    co_return prepared;
}

Task<> send_descriptors(CorePtr core, Prepared& prepared) {
    std::vector<std::pair<DescriptorUse, Monitor::Answer>> answers;
    for (const auto& use : prepared.descriptors) {
        const auto found = std::ranges::find(prepared.line.fds, use.number, &std::pair<int, int>::second);
        if (found == prepared.line.fds.end())
            throw Error{Code::internal, fmt::format("no descriptor {} was opened for a device", use.number)};
        Fd copy{::fcntl(found->first, F_DUPFD_CLOEXEC, 3)};
        auto& monitor = core->open_monitor();
        if (use.name.empty())
            answers.emplace_back(use, monitor.send("add-fd", json{{"fdset-id", use.set}}, std::move(copy)));
        else
            answers.emplace_back(use, monitor.send("getfd", json{{"fdname", use.name}}, std::move(copy)));
    }
    std::exception_ptr failure;
    for (const auto& [use, answer] : answers) {
        try {
            const auto added = co_await answer.get(core->verb_deadline());
            if (use.by_number) set_number(prepared.words, use.number, static_cast<std::int64_t>(number(added, "fd")));
        } catch (const Error&) {
            if (!failure) failure = std::current_exception();
        }
    }
    if (failure) std::rethrow_exception(failure);
}

std::vector<Part> sets_of(const Prepared& prepared) {
    std::vector<Part> sets;
    for (const auto& use : prepared.descriptors)
        if (use.name.empty())
            if (const Part part{Part::Kind::set, std::to_string(use.set)}; std::ranges::find(sets, part) == sets.end())
                sets.push_back(part);
    return sets;
}

namespace {

/// Names of descriptors that nothing has taken.
Task<> close_names(CorePtr core, const Prepared& prepared) {
    std::vector<Monitor::Answer> answers;
    for (const auto& use : prepared.descriptors)
        if (!use.name.empty()) answers.push_back(core->open_monitor().send("closefd", json{{"fdname", use.name}}));
    for (const auto& answer : answers) {
        try {
            co_await answer.get(core->verb_deadline());
        } catch (const Error&) {
            // It was taken.
        }
    }
}

void add_link_states(const std::vector<Device>& devices, std::vector<QmpCommand>& commands) {
    for (const auto& device : devices)
        if (const auto* interface = std::get_if<Interface>(&device);
            interface && interface->link_state == "down" && actual_type(*interface) != InterfaceType::hostdev)
            commands.push_back({"set_link", {{"name", interface->info.alias}, {"up", false}}, {Part::Kind::set, ""}});
}

/// QEMU cannot: it was given them as descriptors.
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

/// Those that were made for it to listen at.
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

/// QEMU chose where the guest sees it; a state that is taken up later fits only there.
Task<> place_memories(CorePtr core) {
    try {
        fill_memories(core->config,
                      co_await core->open_monitor().execute("query-memory-devices", core->verb_deadline()));
    } catch (const Error& error) {
        log_warning(*core, fmt::format("{}: where its memory is seen was not told: {}", core->who(), error.what()));
    }
}

}  // namespace

Task<> attach(CorePtr core, Known known, DeviceRequest request, std::stop_token stop) {
    (void)core->open_monitor();
    auto plan = plan_attach(core->config, std::move(request.device), request.stored.get(), *known);
    for (const auto& device : plan.devices)
        if (const auto& alias = find_info(device)->alias; core->record.parts.contains(alias))
            throw Error{Code::device_in_use,
                        fmt::format("{}: a device '{}' is still on its way out", core->who(), alias)};
    auto prepared = co_await prepare(core, known, std::move(plan), request.resources);
    auto behind = parts_of_devices(prepared.words);
    const auto sets = sets_of(prepared);
    // What is opened by number is in sets that the words do not name.
    auto& last = behind[find_info(prepared.devices.back())->alias];
    for (const auto& set : sets)
        if (std::ranges::find(last, set) == last.end()) last.insert(last.begin(), set);
    auto commands = commands_of(prepared.words);
    leave_out_shared(*core, commands);
    if (stop.stop_requested()) throw Cancelled{fmt::format("a new device of {}", core->who())};

    // A daemon that ends from here on leaves it to the next one to take this away.
    core->record.coming = texts(sets);
    for (const auto& command : commands) core->record.coming.push_back(command.part.text());
    core->tell_config();
    std::exception_ptr failure;
    Outcome outcome;
    try {
        co_await send_descriptors(core, prepared);
        commands = commands_of(prepared.words);
        leave_out_shared(*core, commands);
        add_link_states(prepared.devices, commands);
        outcome = co_await send_all(core, commands);
        failure = outcome.failure;
    } catch (...) {
        failure = std::current_exception();
    }
    std::erase_if(outcome.there, [](const Part& part) { return part.id.empty(); });
    core->record.coming.clear();
    if (!failure && core->is_gone())
        failure = std::make_exception_ptr(Error{Code::hypervisor_failed, fmt::format("{} has ended", core->who())});
    if (failure) {
        if (!core->is_gone()) {
            try {
                co_await close_names(core, prepared);
                co_await take_back(core, std::move(outcome.there), sets);
                co_await end_helper_of(core, find_info(prepared.devices.back())->alias);
                for (const auto& device : prepared.devices) co_await remove_sockets(core, sockets_of(device));
            } catch (const Error& error) {
                log_warning(*core, fmt::format("{}: taking back a device: {}", core->who(), error.what()));
            }
            core->tell_config();
        }
        std::rethrow_exception(failure);
    }
    for (const auto& [alias, parts] : behind) core->record.parts[alias] = texts(parts);
    bool memory = false;
    for (auto& device : prepared.devices) {
        memory = memory || std::holds_alternative<MemoryDevice>(device);
        set_terminals(device, outcome.terminals);
        (void)add_device(core->config, device);
        if (std::holds_alternative<Serial>(device) && !chipset_of(core->config).serial.empty())
            add_console_of_serial(core->config.devices);
    }
    if (memory) co_await place_memories(core);
    core->tell_config();
    for (const auto& device : prepared.devices) core->tell_added(find_info(device)->alias);
}

Task<> release(CorePtr core, std::string alias, std::string path) {
    if (core->record.parts.contains(alias)) {
        // Told of twice when it goes while a daemon compares what is there.
        if (!core->releasing.insert(alias).second) co_return;
        co_await remove_parts(core, core->record.parts[alias]);
        co_await end_helper_of(core, alias);
        core->record.parts.erase(alias);
        core->releasing.erase(alias);
    }
    core->record.leaving.erase(alias);
    const auto place = find_alias(core->config.devices, alias);
    if (place) {
        const auto sockets = sockets_of(device_at(core->config.devices, place->kind, place->number));
        remove_device(core->config, place->kind, place->number);
        if (place->kind == kind_of<Serial>) drop_console_of_serial(core->config.devices);
        co_await remove_sockets(core, sockets);
    }
    // Only processors go under a name that no device of the definition has, or under none.
    const auto vcpus = core->config.vcpu_current.value_or(core->config.vcpu.value_or(1));
    if (!place && vcpus > 1 && (alias.starts_with("vcpu") || alias.empty())) core->config.vcpu_current = vcpus - 1;
    if (!core->is_gone()) {
        core->tell_config();
        if (place) core->tell_removed(alias);
    }
    core->departed(alias);
    core->departed(path);
}

Task<> detach(CorePtr core, std::string alias, std::stop_token stop) {
    (void)core->open_monitor();
    const auto place = find_alias(core->config.devices, alias);
    if (!place) throw Error{Code::no_such_device, fmt::format("{} has no device '{}'", core->who(), alias)};
    require_detachable(core->config, device_at(core->config.devices, place->kind, place->number));
    const auto parts = core->record.parts.find(alias);
    if (parts == core->record.parts.end())
        throw Error{Code::unsupported,
                    fmt::format("{}: '{}' is a part of the machine and cannot be unplugged", core->who(), alias)};
    const bool again = !core->record.leaving.insert(alias).second;
    core->tell_config();
    std::exception_ptr failure;
    const auto deadline = in(core->times.unplug);
    Departure departure{core, alias};
    try {
        co_await core->open_monitor().execute("device_del", json{{"id", alias}}, core->verb_deadline(), stop);
    } catch (const Error& error) {
        // Asking a second time may be refused while the first request stands.
        if (!again || error.code() != Code::hypervisor_failed || core->is_gone()) failure = std::current_exception();
    }
    if (failure) {
        if (!again) core->record.leaving.erase(alias);
        core->tell_config();
        std::rethrow_exception(failure);
    }
    if (!co_await departure.wait(deadline, stop))
        throw Error{
            Code::timeout,
            fmt::format("{}: the guest was asked to give up '{}' and has not done so yet; the request stands, and "
                        "DeviceRemoved will tell",
                        core->who(), alias)};
}

Task<> reconcile(CorePtr core, json present) {
    std::set<std::string> names;
    for (const auto& child : present) names.insert(text(child, "name"));
    std::vector<std::string> gone;
    for (const auto& [alias, parts] : core->record.parts)
        if (!names.contains(alias)) gone.push_back(alias);
    for (const auto& alias : gone) co_await release(core, alias, {});
    if (core->record.coming.empty() || core->is_gone()) co_return;
    log_warning(*core, fmt::format("{}: what was being plugged or taken away when the daemon ended goes", core->who()));
    std::vector<Part> devices, others;
    for (const auto& word : std::exchange(core->record.coming, {})) {
        auto part = Part::from_text(word);
        if (part.kind != Part::Kind::device)
            others.push_back(std::move(part));
        else if (names.contains(part.id))
            devices.push_back(std::move(part));
    }
    devices.insert(devices.begin(), others.begin(), others.end());
    co_await take_back(core, std::move(devices), {});
    core->tell_config();
}

}  // namespace virtbus::qemu
