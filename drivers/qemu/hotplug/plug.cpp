// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/hotplug/plug.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qemu/block/open_images.hpp"
#include "qemu/chipset.hpp"
#include "qemu/hotplug/parts.hpp"
#include "qemu/hotplug/prepare.hpp"
#include "qemu/hotplug/remains.hpp"
#include "qemu/json.hpp"
#include "qemu/live_config.hpp"
#include "virtbus/model/console_pair.hpp"

namespace virtbus::qemu {

using nlohmann::json;

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

void add_link_states(const std::vector<Device>& devices, std::vector<QmpCommand>& commands) {
    for (const auto& device : devices)
        if (const auto* interface = std::get_if<Interface>(&device);
            interface && interface->link_state == "down" && actual_type(*interface) != InterfaceType::hostdev)
            commands.push_back({"set_link", {{"name", interface->info.alias}, {"up", false}}, {Part::Kind::set, ""}});
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

Task<> plug(CorePtr core, Known known, PlugPlan plan, Resources& resources, std::stop_token stop) {
    auto prepared = co_await prepare(core, known, std::move(plan), resources);
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
        co_await grant_for(core, find_info(prepared.devices.back())->alias, prepared.grant);
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
                for (const auto& device : prepared.devices) co_await remove_sockets(core, sockets_of(device));
            } catch (const Error& error) {
                log_warning(*core, fmt::format("{}: taking back a device: {}", core->who(), error.what()));
            }
            core->tell_config();
        }
        rethrow_with_paths(failure, prepared.line.files);
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

}  // namespace

Task<> attach(CorePtr core, Known known, DeviceRequest request, std::stop_token stop) {
    (void)core->open_monitor();
    auto plan = plan_attach(core->config, std::move(request.device), request.stored.get(), *known);
    for (const auto& device : plan.devices)
        if (const auto& alias = find_info(device)->alias; core->record.parts.contains(alias))
            throw Error{Code::device_in_use,
                        fmt::format("{}: a device '{}' is still on its way out", core->who(), alias)};
    auto devices = plan.devices;
    co_await bring_in(core, std::move(devices),
                      plug(core, std::move(known), std::move(plan), request.resources, std::move(stop)));
}

}  // namespace virtbus::qemu
