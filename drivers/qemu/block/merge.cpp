// SPDX-License-Identifier: LGPL-2.1-or-later
// Images taken out of a chain by QEMU's commit and stream jobs. The job does its work while the guest runs; then the
// CPUs stand still, the job changes the chain, and they run on when that is on record.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qemu/block/carried_bitmaps.hpp"
#include "qemu/block/disk_work.hpp"
#include "qemu/block/follow.hpp"
#include "qemu/block/images.hpp"
#include "qemu/block/jobs.hpp"
#include "qemu/block/open_images.hpp"
#include "qemu/json.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

using CorePtr = std::shared_ptr<GuestCore>;

struct Plan {
    std::string disk, alias, job;
    ChainMerge::How how;
    std::string root, upper, lower;    ///< nodes; lower: "" = none
    ImageFile lower_file;              ///< no path: what is lower is no local file
    bool top = false;                  ///< `upper` is what the guest writes to
    std::vector<std::string> written;  ///< images that QEMU can only read and the job writes to, or to their headers
    LeavingImages leaving;
    DiskParts after;
};

std::size_t find_image(const GuestCore& core, const Disk& disk, const DiskParts& parts, const std::string& path) {
    for (std::size_t i = 0; i < parts.images.size(); ++i)
        if (const auto image = core.record.images.find(parts.images[i].node());
            image != core.record.images.end() && image->second.file.path == path)
            return i;
    throw Error{Code::invalid_state,
                fmt::format("image '{}' is not in the chain of disk '{}' of {}", path, disk.target.dev, core.who())};
}

Plan plan_merge(GuestCore& core, const ChainMerge& merge) {
    const auto& disk = get_disk(core, merge.disk);
    const auto parts = get_parts(core, disk);
    const auto upper = find_image(core, disk, parts, merge.upper);
    const auto lower = merge.lower.empty() ? 0 : find_image(core, disk, parts, merge.lower);
    const bool commit = merge.how == ChainMerge::How::commit, to_nothing = merge.lower.empty();
    if (to_nothing ? commit : lower >= upper)
        throw Error{Code::invalid_args, fmt::format("disk '{}' of {}: '{}' does not lie below '{}'", merge.disk,
                                                    core.who(), merge.lower, merge.upper)};
    Plan plan{merge.disk,
              disk.info.alias,
              "virtbus-merge-" + merge.disk,
              merge.how,
              parts.root(),
              parts.images[upper].node(),
              {},
              {},
              upper + 1 == parts.images.size(),
              {},
              {},
              parts};
    if (!to_nothing) {
        plan.lower = parts.images[lower].node();
        plan.lower_file = core.record.images[plan.lower].file;
    }
    if (commit) plan.written.push_back(plan.lower);
    if (commit && upper + 2 < parts.images.size()) plan.written.push_back(parts.images[upper + 1].node());
    if (!commit && !plan.top) plan.written.push_back(plan.upper);
    const auto first = to_nothing ? 0 : lower + 1, last = commit ? upper + 1 : upper;
    plan.leaving.into = commit ? plan.lower : plan.upper;
    plan.leaving.takes_place = commit;
    for (auto i = last; i-- > first;) plan.leaving.from.push_back(parts.images[i].node());
    auto& images = plan.after.images;
    images.erase(images.begin() + static_cast<std::ptrdiff_t>(first),
                 images.begin() + static_cast<std::ptrdiff_t>(last));
    return plan;
}

/// QEMU has the image by a read-only descriptor: it gets the file once more, for writing. Another node reads it from
/// then on, since the locks of the first descriptor, which its set keeps open, would not let the second one write.
Task<> let_write(CorePtr core, std::string alias, std::string node, bool becomes_top, Resources& resources) {
    auto image = core->record.images.at(node);
    auto parts = DiskParts::of(core->record.parts[alias]);
    const auto place = std::ranges::find(parts.images, node, &ImageParts::node);
    const auto below = place == parts.images.begin() ? std::string{} : (place - 1)->node();
    auto nodes = writable_storage(image, ++core->record.nodes, ++core->record.sets);
    const auto name = text(nodes.storage, "node-name");
    if (parse_json(image.node).contains("data-file") || !place->exchange_storage(std::to_string(nodes.set), name))
        throw Error{Code::unsupported,
                    fmt::format("{}: image '{}' is not a file of its own, or not all of it; virtbus cannot have it "
                                "written while the machine runs",
                                core->who(), image.file.path)};
    auto opened = co_await open_image(image.file.path, resources);
    image.storage = nodes.storage.dump();
    if (becomes_top) open_like_top(image, core->record.images[parts.images.back().node()]);
    core->record.changing[alias] = parts.texts();
    core->tell_config();
    const auto exchange = [](CorePtr c, OpenedImage file, NewNodes fresh, json options) -> Task<> {
        co_await add_image(c, std::move(file), std::move(fresh));
        co_await c->open_monitor().execute("blockdev-reopen", json{{"options", json::array({options})}}, in(patient));
    };
    const auto options = reopened(image, name, below, true);
    const auto failure = co_await outcome_of(exchange(core, std::move(opened), std::move(nodes), options));
    if (!failure) core->record.images[node] = std::move(image);
    co_await follow_chains(core);
    if (failure) std::rethrow_exception(failure);
}

Task<> begin(CorePtr core, const Plan& plan, std::stop_token stop) {
    json arguments{{"job-id", plan.job}, {"auto-finalize", false}, {"auto-dismiss", false}};
    const bool commit = plan.how == ChainMerge::How::commit;
    if (commit) {
        arguments.update({{"device", plan.root}, {"top-node", plan.upper}, {"base-node", plan.lower}});
    } else {
        arguments["device"] = plan.upper;
        if (!plan.lower.empty()) arguments["base-node"] = plan.lower;
    }
    // What the image above names from then on. QEMU itself knows only a set of descriptors.
    if (!plan.lower_file.path.empty() && !(commit && plan.top)) arguments["backing-file"] = plan.lower_file.path;
    co_await core->open_monitor().execute(commit ? "block-commit" : "block-stream", arguments, core->verb_deadline(),
                                          std::move(stop));
}

Task<> halt(CorePtr core) {
    if (core->life.state() != State::running) co_return;
    core->record.resume = true;
    core->life.expect_stop("snapshot");
    core->tell_config();
    co_await core->open_monitor().execute("stop", core->verb_deadline());
}

/// As long as the images stand where they stood, so that what comes in between finds both or the one.
Task<> carry_bitmaps(CorePtr core, LeavingImages leaving) {
    const auto nodes =
        co_await core->open_monitor().execute("query-named-block-nodes", json{{"flat", true}}, core->verb_deadline());
    const auto actions = carried_bitmaps(nodes, leaving);
    if (actions.empty()) co_return;
    co_await core->open_monitor().execute("transaction", json{{"actions", actions}}, in(patient));
}

Task<> work(CorePtr core, const Plan& plan, ProgressSink progress, std::stop_token stop) {
    constexpr std::string_view doing = "merge images";
    co_await begin(core, plan, stop);
    auto facts = co_await follow_job(core, plan.job, {"ready", "pending"}, std::move(progress), stop);
    require_success(*core, facts, doing);
    co_await halt(core);
    if (facts.status == "ready") {
        co_await core->open_monitor().execute("job-complete", json{{"id", plan.job}}, core->verb_deadline(), stop);
        facts = co_await follow_job(core, plan.job, {"pending"}, {}, stop);
        require_success(*core, facts, doing);
    }
    if (stop.stop_requested()) throw Cancelled{fmt::format("a merge of images of {}", core->who())};
    co_await carry_bitmaps(core, plan.leaving);
    // From here on it cannot be taken back.
    co_await core->open_monitor().execute("job-finalize", json{{"id", plan.job}}, in(patient));
    facts = co_await follow_job(core, plan.job, {}, {}, {});
    require_success(*core, facts, doing);
}

/// Record and definition as they are now, the job gone.
Task<> conclude(CorePtr core, const Plan& plan) {
    co_await end_job(core, plan.job);
    co_await follow_chains(core);
    co_await make_read_only(core, plan.alias);
    core->record.job.clear();
    core->tell_config();
}

}  // namespace

Task<> merge(CorePtr core, ChainMerge merge, Resources& resources, ProgressSink progress, std::stop_token stop) {
    co_await make_ready(core);
    const auto plan = plan_merge(*core, merge);
    const auto after = plan.after.texts();
    if (after == core->record.parts[plan.alias]) co_return;  // nothing lies between
    const bool pivot = plan.how == ChainMerge::How::commit && plan.top;
    for (const auto& node : plan.written)
        if (const auto image = core->record.images.find(node); image != core->record.images.end())
            co_await let_write(core, plan.alias, node, pivot, resources);
    if (stop.stop_requested()) throw Cancelled{fmt::format("a merge of images of {}", core->who())};
    auto wanted = plan_merge(*core, merge).after.texts();  // with what is written now
    core->record.changing[plan.alias] = wanted;
    core->record.job = plan.job;
    core->tell_config();
    auto failure = co_await outcome_of(work(core, plan, std::move(progress), stop));
    const auto unknown = core->is_gone() ? failure : co_await outcome_of(conclude(core, plan));
    if (!unknown) {
        // Whatever was heard of it on the way, the chain tells whether it was done.
        const bool done = core->record.parts[plan.alias] == wanted;
        if (done) failure = co_await outcome_of(merge.settle());
        const auto halted = co_await outcome_of(run_again(core));
        if (!failure) failure = halted;
        if (!failure && !done)
            throw Error{Code::hypervisor_failed,
                        fmt::format("QEMU of {} has left the chain of disk '{}' as it was", core->who(), plan.disk)};
    }
    if (!failure) failure = unknown;
    if (failure) std::rethrow_exception(failure);
}

}  // namespace virtbus::qemu
