// SPDX-License-Identifier: LGPL-2.1-or-later
// Snapshots inside the images, made, loaded and removed by QEMU's jobs.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "qemu/block/disk_work.hpp"
#include "qemu/block/follow.hpp"
#include "qemu/block/jobs.hpp"
#include "qemu/json.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

using CorePtr = std::shared_ptr<GuestCore>;

constexpr const char* store_node = "libvirt-pflash1-format";

std::vector<std::string> nodes_of(GuestCore& core, const InternalSnapshot& snapshot) {
    std::vector<std::string> nodes;
    for (const auto& disk : snapshot.disks) nodes.push_back(get_parts(core, get_disk(core, disk)).images.back().node());
    if (snapshot.store) nodes.emplace_back(store_node);
    if (nodes.empty())
        throw Error{Code::invalid_args, fmt::format("a snapshot inside images of {} names none", core.who())};
    return nodes;
}

/// Runs the job to its end. QEMU does not let itself be interrupted in it, so a stop waits.
Task<> run_job(CorePtr core, const char* command, const char* doing, json arguments, ProgressSink progress) {
    const auto id = fmt::format("virtbus-{}", command);
    arguments["job-id"] = id;
    core->record.job = id;
    core->tell_config();
    const auto run = [](CorePtr c, const char* name, const char* what, json said, std::string job,
                        ProgressSink sink) -> Task<> {
        co_await c->open_monitor().execute(name, said, in(patient));
        const auto facts = co_await follow_job(c, job, {}, std::move(sink), {});
        require_success(*c, facts, what);
    };
    const auto failure = co_await outcome_of(run(core, command, doing, std::move(arguments), id, std::move(progress)));
    const auto left = core->is_gone() ? nullptr : co_await outcome_of(end_job(core, id));
    if (!left) core->record.job.clear();
    core->tell_config();
    if (failure) std::rethrow_exception(failure);
    if (left) std::rethrow_exception(left);
}

Task<> remove(CorePtr core, std::string tag, std::vector<std::string> nodes) {
    co_await run_job(core, "snapshot-delete", "remove the snapshot", {{"tag", tag}, {"devices", nodes}}, {});
}

}  // namespace

Task<> take_internal(CorePtr core, InternalSnapshot snapshot, ProgressSink progress, std::stop_token stop) {
    co_await make_ready(core);
    const auto nodes = nodes_of(*core, snapshot);
    if (stop.stop_requested()) throw Cancelled{fmt::format("a snapshot of {}", core->who())};
    core->life.expect_stop("snapshot");
    const auto failure = co_await outcome_of(
        run_job(core, "snapshot-save", "take the snapshot",
                {{"tag", snapshot.tag}, {"vmstate", nodes.front()}, {"devices", nodes}}, std::move(progress)));
    core->life.expect_stop({});
    if (failure) std::rethrow_exception(failure);
    if (!stop.stop_requested()) co_return;
    co_await remove(core, snapshot.tag, nodes);
    throw Cancelled{fmt::format("a snapshot of {}", core->who())};
}

Task<> load_internal(CorePtr core, InternalSnapshot snapshot, ProgressSink progress, std::stop_token stop) {
    constexpr const char* reason = "from-snapshot";
    co_await make_ready(core);
    const auto nodes = nodes_of(*core, snapshot);
    if (stop.stop_requested()) throw Cancelled{fmt::format("loading a snapshot of {}", core->who())};
    // QEMU would let a machine run on that ran before.
    core->life.expect_stop(reason);
    co_await core->open_monitor().execute("stop", core->verb_deadline());
    co_await run_job(core, "snapshot-load", "load the snapshot",
                     {{"tag", snapshot.tag}, {"vmstate", nodes.front()}, {"devices", nodes}}, std::move(progress));
    core->life.expect_stop({});
    core->life.expect_resume(reason);
    if (core->life.state() == State::paused && core->life.reason() == reason) co_return;
    core->life.set(State::paused, reason);
    core->apply({.changed = true});
}

Task<> remove_internal(CorePtr core, InternalSnapshot snapshot, std::stop_token stop) {
    co_await make_ready(core);
    const auto nodes = nodes_of(*core, snapshot);
    if (stop.stop_requested()) throw Cancelled{fmt::format("removing a snapshot of {}", core->who())};
    co_await remove(core, snapshot.tag, nodes);
}

Task<> take_disks_only(CorePtr core, InternalSnapshot snapshot, std::stop_token stop) {
    co_await make_ready(core);
    (void)nodes_of(*core, snapshot);
    if (stop.stop_requested()) throw Cancelled{fmt::format("a snapshot of {}", core->who())};
    std::vector<std::string> roots;
    for (const auto& disk : snapshot.disks) roots.push_back(get_parts(*core, get_disk(*core, disk)).root());
    if (snapshot.store) roots.emplace_back(store_node);
    json actions = json::array();
    for (const auto& root : roots)
        actions.push_back(
            {{"type", "blockdev-snapshot-internal-sync"}, {"data", {{"device", root}, {"name", snapshot.tag}}}});
    co_await core->open_monitor().execute("transaction", json{{"actions", actions}}, in(patient));
}

}  // namespace virtbus::qemu
