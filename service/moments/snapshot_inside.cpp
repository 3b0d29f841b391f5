// SPDX-License-Identifier: LGPL-2.1-or-later
// Removing what a snapshot has inside the images, and images that were kept only for that. Its record, and what lies
// outside, is snapshot_remove.cpp's.
#include <fmt/format.h>

#include <functional>

#include "service/machine.hpp"
#include "service/moments/chain_graph.hpp"
#include "service/moments/snapshots.hpp"

namespace virtbus {

/// A machine that runs remembers the tables of the images it only reads, too: nobody else may change them.
Task<> SnapshotBook::guard_tags(JobPtr job, MomentEntry entry) {
    const auto run = running();
    if (!run) co_return;
    ChainGraph graph{images(), machine_.context_.ports.workers};
    for (const auto& disk : run->live.devices.disks)
        if (auto top = top_image(disk)) co_await graph.follow(std::move(*top), job->stop());
    for (const auto& part : entry.disks)
        if (part.place == SnapshotPlace::internal && !writes_to(part.target, part.frozen.path) &&
            graph.knows(part.frozen.path))
            throw Error{Code::invalid_state,
                        fmt::format("the snapshot '{}' is inside {}, on which an image of {} lies that is in use. Shut "
                                    "it down first, or delete the external snapshots made since",
                                    entry.name, part.frozen.path, machine_.words())};
}

/// The internal snapshots of that name go from the images that have them.
Task<> SnapshotBook::remove_tags(MomentEntry entry, RunPtr run, std::stop_token stop) {
    InternalSnapshot online{.tag = entry.name, .disks = {}, .store = false};
    std::vector<std::function<Task<>()>> work;
    Images* tool = nullptr;
    for (const auto& disk : entry.disks) {
        if (disk.place != SnapshotPlace::internal) continue;
        if (run && writes_to(disk.target, disk.frozen.path)) {
            online.disks.push_back(disk.target);
            continue;
        }
        if (!co_await is_there(disk.frozen.path)) continue;
        if (!tool) tool = &images();
        work.emplace_back(
            [tool, image = disk.frozen, tag = entry.name, stop] { return tool->remove(image, tag, stop); });
    }
    if (!online.disks.empty()) {
        online.store = has_qcow2_store(run->live);
        co_await disk_work(run).remove_internal(std::move(online), stop);
    } else if (entry.state == word(State::running) || entry.state == word(State::paused)) {
        // With the memory went the variable store.
        if (const auto store = qcow2_store(current_config()); store && co_await is_there(store->path)) {
            if (!tool) tool = &images();
            work.emplace_back(
                [tool, image = *store, tag = entry.name, stop] { return tool->remove(image, tag, stop); });
        }
    }
    co_await together(std::move(work));
}

/// What was killed while it took or removed a snapshot may have left the image so that checks complain of it.
Task<> SnapshotBook::mend_images(MomentEntry entry, std::stop_token stop) {
    for (const auto& disk : entry.disks) {
        if (disk.place != SnapshotPlace::internal || !co_await is_there(disk.frozen.path)) continue;
        try {
            co_await images().mend(disk.frozen, stop);
        } catch (const Error& error) {
            machine_.log(Priority::warning, fmt::format("After a snapshot that was interrupted: {}", error.what()));
        }
    }
}

/// Images that were given up long ago and kept for what was inside them go with the last of it.
Task<> SnapshotBook::give_up_holders(JobPtr job, MomentEntry entry) {
    for (const auto& part : entry.disks) {
        const auto holder = part.frozen;
        if (part.place != SnapshotPlace::internal || !made_here(holder.path) || is_top(holder.path)) continue;
        ChainGraph graph{images(), machine_.context_.ports.workers};
        co_await learn_chains(graph, job->stop());
        if (graph.holds_snapshots(holder.path) || !graph.on_top_of(holder.path).empty()) continue;
        if (!(co_await graph.strangers(holder.path, job->stop())).empty()) continue;
        co_await note_dissolved(entry.name, part.target, {}, holder);
    }
}

}  // namespace virtbus
