// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/block/follow.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qemu/block/jobs.hpp"
#include "qemu/block/open_images.hpp"
#include "qemu/hotplug/remains.hpp"
#include "qemu/json.hpp"
#include "virtbus/model/device_lists.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

constexpr std::string_view node_word = "blockdev:", set_word = "set:";

void warn(const GuestCore& core, const std::string& message) {
    core.ports.log.warning(message, {{"DOMAIN", core.config.name}, {"DOMAIN_UUID", core.config.uuid}});
}

unsigned set_of(const std::string& part) {
    return static_cast<unsigned>(std::stoul(part.substr(set_word.size())));
}

Task<std::set<unsigned>> ask_sets(CorePtr core) {
    const auto answer = co_await core->open_monitor().execute("query-fdsets", core->verb_deadline());
    std::set<unsigned> sets;
    for (const auto& set : answer) sets.insert(static_cast<unsigned>(number(set, "fdset-id")));
    co_return sets;
}

Disk* find_disk(GuestCore& core, const std::string& alias) {
    const auto found = std::ranges::find(core.config.devices.disks, alias,
                                         [](const Disk& disk) -> const std::string& { return disk.info.alias; });
    return found == core.config.devices.disks.end() ? nullptr : &*found;
}

/// Takes the one or the other for the truth; what belongs to the loser alone is added to `left`.
void choose(GuestCore& core, const BlockGraph& graph, const std::string& alias, const std::vector<std::string>& after,
            std::vector<std::string>& left) {
    const auto known = core.record.parts.find(alias);
    if (known == core.record.parts.end()) {  // it was unplugged
        left.insert(left.end(), after.begin(), after.end());
        return;
    }
    auto& held = known->second;
    const std::vector<std::string> before = std::exchange(held, after);
    if (graph.is(alias, DiskParts::of(after))) {
        if (auto* disk = find_disk(core, alias))
            follow_images(*disk, DiskParts::of(before), DiskParts::of(after), core.record);
    } else {
        if (!graph.is(alias, DiskParts::of(before)))
            warn(core, fmt::format("{}: QEMU has another chain behind '{}' than is known", core.who(), alias));
        held = before;
    }
    for (const auto* parts : {&before, &after})
        for (const auto& part : *parts)
            if (std::ranges::find(held, part) == held.end()) left.push_back(part);
}

/// Images that QEMU has no use for any more.
Task<> close_images(CorePtr core, BlockGraph graph, std::vector<std::string> left) {
    std::erase_if(left, [&](const std::string& part) {
        if (part.starts_with(set_word)) core->record.closing.insert(set_of(part));
        return part.starts_with(set_word) || (part.starts_with(node_word) && !graph.has(part.substr(node_word.size())));
    });
    // A daemon that ends now leaves them to the next one.
    core->record.coming = left;
    core->tell_config();
    co_await remove_parts(core, std::move(left));
    core->record.coming.clear();
    co_await close_sets(core);
}

/// A save has handed the images over: QEMU takes them back when its CPUs run, or for an export. That of a server that
/// is not there fails after it has done so.
Task<> activate(CorePtr core) {
    const auto now = co_await core->open_monitor().execute("query-status", core->verb_deadline());
    if (text(now, "status") != "postmigrate") co_return;
    std::vector<std::string> nodes;
    for (const auto& disk : core->config.devices.disks)
        if (const auto parts = core->record.parts.find(disk.info.alias); parts != core->record.parts.end())
            if (auto known = DiskParts::of(parts->second); !known.images.empty())
                nodes.push_back(known.images.back().node());
    if (core->config.os.loader && core->config.os.loader->type == "pflash")
        nodes.emplace_back("libvirt-pflash1-format");
    for (const auto& node : nodes) {
        const json id{{"id", "virtbus-activate-" + node}};
        json exported = id;
        exported.update({{"type", "nbd"}, {"node-name", node}});
        core->open_monitor().send("block-export-add", exported);
        core->open_monitor().send("block-export-del", id);
    }
    co_await core->open_monitor().execute("query-block-exports", core->verb_deadline());  // all are answered
}

}  // namespace

Task<BlockGraph> ask_graph(CorePtr core) {
    auto& monitor = core->open_monitor();
    const auto graph = monitor.send("x-debug-query-block-graph");
    const auto nodes = monitor.send("query-named-block-nodes", json{{"flat", true}});
    const auto deadline = in(patient);
    const auto edges = co_await graph.get(deadline);
    co_return BlockGraph{edges, co_await nodes.get(deadline)};
}

Task<> close_sets(CorePtr core) {
    if (core->record.closing.empty()) co_return;
    for (const auto set : core->record.closing)
        core->open_monitor().send("remove-fd", json{{"fdset-id", set}});  // one that is gone already is refused
    const auto there = co_await ask_sets(core);
    std::erase_if(core->record.closing, [&](unsigned set) { return !there.contains(set); });
    core->tell_config();
}

Task<> follow_chains(CorePtr core) {
    if (core->record.changing.empty()) co_return;
    auto graph = co_await ask_graph(core);
    std::vector<std::string> left;
    for (auto& [alias, after] : std::exchange(core->record.changing, {})) choose(*core, graph, alias, after, left);
    co_await close_images(core, std::move(graph), std::move(left));
    core->tell_config();
}

Task<> make_read_only(CorePtr core, std::string alias) {
    const auto graph = co_await ask_graph(core);
    const auto disk = DiskParts::of(core->record.parts[alias]);
    for (std::size_t i = 0; i + 1 < disk.images.size(); ++i) {
        const auto node = disk.images[i].node();
        const auto image = core->record.images.find(node);
        if (!graph.is_writable(node) || image == core->record.images.end()) continue;
        const auto options =
            reopened(image->second, disk.images[i].storage(), i > 0 ? disk.images[i - 1].node() : std::string{}, true);
        co_await core->open_monitor().execute("blockdev-reopen", json{{"options", json::array({options})}},
                                              in(patient));
    }
}

Task<> recover(CorePtr core) {
    auto& record = core->record;
    if (record.changing.empty() && record.job.empty()) co_return;
    if (!record.job.empty()) co_await end_job(core, record.job);
    std::vector<std::string> aliases;
    for (const auto& [alias, parts] : record.changing) aliases.push_back(alias);
    co_await follow_chains(core);
    for (const auto& alias : aliases) co_await make_read_only(core, alias);
    record.job.clear();
    core->tell_config();
}

Task<> quietly(CorePtr core, Task<> work) {
    const auto failure = co_await outcome_of(std::move(work));
    // Without a monitor there is nobody to do it, and another one begins with it.
    if (!failure || !core->monitor || !core->monitor->is_open()) co_return;
    try {
        std::rethrow_exception(failure);
    } catch (const std::exception& error) {
        warn(*core, fmt::format("{}: what is under way with its disks: {}", core->who(), error.what()));
    }
}

Task<> run_again(CorePtr core) {
    if (!core->record.resume) co_return;
    if (core->life.state() == State::paused) co_await core->open_monitor().execute("cont", core->verb_deadline());
    core->record.resume = false;
    core->tell_config();
}

Task<> make_ready(CorePtr core) {
    (void)core->open_monitor();
    co_await recover(core);
    co_await activate(core);
}

Disk& get_disk(GuestCore& core, const std::string& target) {
    for (auto& disk : core.config.devices.disks)
        if (disk.target.dev == target) return disk;
    throw Error{Code::no_such_device, fmt::format("{} has no disk '{}'", core.who(), target)};
}

DiskParts get_parts(const GuestCore& core, const Disk& disk) {
    const auto found = core.record.parts.find(disk.info.alias);
    auto parts = found == core.record.parts.end() ? DiskParts{} : DiskParts::of(found->second);
    if (parts.images.empty())
        throw Error{Code::invalid_state, fmt::format("disk '{}' of {} has no image", disk.target.dev, core.who())};
    return parts;
}

}  // namespace virtbus::qemu
