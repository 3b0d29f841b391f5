// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/hotplug/prepare.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qemu/block/open_images.hpp"
#include "qemu/json.hpp"
#include "qemu/starter.hpp"
#include "qemu/unsupported_parts.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

void require_running(const GuestCore& core) {
    if (core.is_gone()) throw Error{Code::hypervisor_failed, fmt::format("{} has ended", core.who())};
}

/// Which networks the sandbox lets it reach was settled at its start.
void require_in_sandbox(const GuestCore& core, const CommandLine& line) {
    if (core.record.unit.empty()) return;
    if (line.needs_network && !core.record.network)
        throw Error{
            Code::unsupported,
            fmt::format("{} was started in a sandbox without the network, and this device needs QEMU to have it; "
                        "stored in the definition it has it from the next start on",
                        core.who())};
}

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
void require_good(const GuestCore& core, const DomainConfig& with, const Capabilities& known) {
    Problems problems;
    check_interfaces(with, known, problems);
    for (auto& problem : helper_problems(with, *core.programs, core.ports.files))
        problems.push_back(std::move(problem));
    if (!problems.empty())
        throw Error{Code::unsupported_configuration, fmt::format("{}: {}", core.who(), fmt::join(problems, "; "))};
}

std::vector<std::string> without(std::vector<std::string> more, const std::vector<std::string>& less) {
    std::erase_if(more, [&](const auto& each) { return std::ranges::find(less, each) != less.end(); });
    return more;
}

/// The device reads and writes the guest's memory past QEMU, so that it all has to stay where it is.
bool pins_memory(const UnitGrant& grant, const std::vector<Device>& devices) {
    return std::ranges::any_of(grant.devices, [](auto& node) { return node.starts_with("/dev/vfio/"); }) ||
           std::ranges::any_of(devices, [](const Device& device) {
               const auto* interface = std::get_if<Interface>(&device);
               return interface && actual_type(*interface) == InterfaceType::vdpa;
           });
}

}  // namespace

Task<Prepared> prepare(CorePtr core, Known known, PlugPlan plan, Resources& resources) {
    require_good(*core, plan.with, *known);
    OpenOptions options;
    options.runtime_folder = guest_sockets(core->record);
    options.tls_folder = core->ports.folders.config + "/tls";
    options.host_root = core->programs->host_root;
    auto opened = co_await open_resources(plan.with, resources, core->ports.workers, std::move(options));
    require_running(*core);
    co_await start_helpers_for(core, plan.with, *core->programs,
                               helper_order(*core, &resources, core->verb_deadline(), resources.stop()), opened);
    core->tell_config();  // a daemon that ends from here on leaves helpers to the next one
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
    prepared.grant = {without(prepared.line.devices, base.devices), without(prepared.line.given, base.given), 0};
    if (pins_memory(prepared.grant, plan.devices)) prepared.grant.memory_locked = locked_memory(plan.with);
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

}  // namespace virtbus::qemu
