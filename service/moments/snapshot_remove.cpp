// SPDX-License-Identifier: LGPL-2.1-or-later
// Removing snapshots. What an external one has frozen stays reachable for whoever still needs it: it is merged with
// what lies on it. Every step can be repeated, and the index says what is left to do.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "service/machine.hpp"
#include "service/moments/chain_graph.hpp"
#include "service/moments/snapshots.hpp"
#include "service/xml/domain_xml.hpp"
#include "service/xml/kept_xml.hpp"
#include "service/xml/moment_xml.hpp"

namespace virtbus {

namespace {

constexpr Duration merge_patience{60'000};

MomentDisk* find_part(MomentEntry& entry, const std::string& target) {
    const auto found = std::ranges::find(entry.disks, target, &MomentDisk::target);
    return found == entry.disks.end() ? nullptr : &*found;
}

}  // namespace

JobPtr SnapshotBook::remove(std::string name, MomentDeleteOptions options, Caller caller) {
    get(name);
    if (options.children && options.children_only)
        throw Error{Code::conflicting_options, "'children' and 'children-only' exclude each other; give one of them"};
    return machine_.begin(
        "delete-snapshot", "domain.snapshot", std::move(caller), true,
        [this, name, options](Machine&, JobPtr job) { return do_remove(std::move(job), name, options); });
}

Task<> SnapshotBook::do_remove(JobPtr job, std::string name, MomentDeleteOptions options) {
    const auto subject = options.metadata_only ? Lane::Subject::definition : Lane::Subject::guest;
    const auto hold = co_await machine_.lane_.enter(job, subject);
    machine_.require_listed();
    co_await machine_.finish_run();
    co_await recover();
    get(name);
    std::vector<std::string> names{name};
    if (options.children || options.children_only) names = index_.leaves_first(name);
    if (options.children_only) std::erase(names, name);
    if (options.metadata_only) {
        co_await forget_entries(std::move(names));
        co_return;
    }
    std::size_t done = 0;
    std::exception_ptr error;
    for (const auto& one : names) {
        try {
            if (job->stop().stop_requested()) throw Cancelled{"deleting " + one};
            job->phase("deleting " + one);
            co_await remove_one(job, one);
            ++done;
        } catch (...) {
            error = std::current_exception();
        }
        if (error) break;
    }
    if (!error) co_return;
    if (names.size() == 1) std::rethrow_exception(error);
    try {
        std::rethrow_exception(error);
    } catch (const Error& e) {
        throw Error{e.code(), fmt::format("{} of {} snapshots were deleted, then '{}' failed: {}", done, names.size(),
                                          names[done], e.what())};
    }
}

Task<> SnapshotBook::remove_one(JobPtr job, std::string name) {
    const auto entry = index_.get(name);
    const bool again = interrupted();
    std::exception_ptr error;
    try {
        if (entry.kind == SnapshotKind::internal) {
            co_await guard_tags(job, entry);
            if (!again) co_await begin_pending({.verb = Pending::Verb::remove, .name = name});
            co_await remove_tags(entry, running(), job->stop());
            if (again && !running()) co_await mend_images(entry, job->stop());
            co_await give_up_holders(job, entry);
        } else {
            co_await remove_external(job, entry);
        }
        co_await forget_entries({name});
    } catch (...) {
        error = std::current_exception();
    }
    if (!error) co_return;
    // Merged, and not on record: the note stays, for it to be put there before anything else is done.
    if (interrupted() && is_half_merged(entry)) std::rethrow_exception(error);
    // Some of its images may be without it already.
    if (again && entry.kind == SnapshotKind::internal) std::rethrow_exception(error);
    // What has been merged stays merged, and the snapshot keeps what is left of it.
    try {
        co_await tidy();
    } catch (const std::exception& e) {
        machine_.log(Priority::warning, fmt::format("After a deletion that failed: {}", e.what()));
    }
    std::rethrow_exception(error);
}

/// The guest writes to what the snapshot has frozen.
bool SnapshotBook::is_half_merged(const MomentEntry& entry) const {
    return running() && std::ranges::any_of(entry.disks, [this](const MomentDisk& part) {
               return part.place == SnapshotPlace::external && writes_to(part.target, part.frozen.path);
           });
}

/// The records go, all or none: children move to the parent, and if the current one goes, its parent is that.
Task<> SnapshotBook::forget_entries(std::vector<std::string> names) {
    auto next = index_;
    std::vector<std::string> ids;
    for (const auto& name : names) {
        ids.push_back(index_.get(name).id);
        next.remove(name);
    }
    for (const auto& path : leftovers(next)) co_await try_remove_file(path);
    next.pending.clear();
    co_await save(std::move(next));
    for (const auto& id : ids) {
        try {
            co_await shelf_.remove(id);
        } catch (const std::exception& e) {
            machine_.log(Priority::warning, fmt::format("The record of a deleted snapshot stays: {}", e.what()));
        }
    }
}

/// After a verb that is on record: what it has left goes. A revert's safety snapshots are where the snapshot is.
Task<> SnapshotBook::tidy() {
    auto note = index_.pending.empty() ? Pending{} : decode_pending(index_.pending);
    if (const auto* entry = index_.find(note.name); entry && !note.tag.empty()) {
        note.images.clear();
        for (const auto& part : entry->disks)
            if (part.place == SnapshotPlace::internal) note.images.push_back(part.frozen);
        co_await drop_safety(note);
    }
    auto next = index_;
    for (const auto& path : leftovers(next)) co_await try_remove_file(path);
    next.pending.clear();
    co_await save(std::move(next));
}

/// Files that the merges of the operation under way have left, which nobody needs any more.
std::vector<std::string> SnapshotBook::leftovers(MomentIndex& next) const {
    std::vector<std::string> gone;
    if (index_.pending.empty()) return gone;
    for (const auto& image : decode_pending(index_.pending).images) {
        if (is_top(image.path) || uses(image.path)) continue;
        gone.push_back(image.path);
        next.made.erase(image.path);
    }
    return gone;
}

// ---- external
// ------------------------------------------------------------------------------------------------------------

/// What is known of the images that this removal touches.
struct SnapshotBook::Removal {
    JobPtr job;
    std::string name;
    ChainGraph graph;
    RunPtr run;
};

Task<> SnapshotBook::remove_external(JobPtr job, const MomentEntry& entry_now) {
    const auto entry = entry_now;
    machine_.require_no_managed_save("delete-snapshot");
    Removal removal{job, entry.name, ChainGraph{images(), machine_.context_.ports.workers}, running()};
    co_await learn_chains(removal.graph, job->stop());
    if (!index_.pending.empty()) {
        co_await note_earlier_merges(removal, entry);
        co_await remove_external_rest(removal, index_.get(entry.name));
        co_return;
    }
    co_await remove_external_rest(removal, entry);
}

/// A daemon before this one has merged and could not put it on record: what was frozen is written to, so what lies on
/// it is out of use.
Task<> SnapshotBook::note_earlier_merges(Removal& removal, MomentEntry entry) {
    for (const auto& part : entry.disks) {
        if (part.place != SnapshotPlace::external || !writes_to(part.target, part.frozen.path)) continue;
        const auto overlays = removal.graph.on_top_of(part.frozen.path);
        if (overlays.size() != 1) continue;
        const auto& overlay = overlays.front();
        co_await note_merged(removal.name, part.target, {{overlay.path, part.frozen}},
                             made_here(overlay.path) ? overlay : ImageFile{});
    }
}

Task<> SnapshotBook::remove_external_rest(Removal& removal, MomentEntry entry) {
    const auto job = removal.job;
    for (const auto& part : entry.disks)
        if (part.place == SnapshotPlace::external) co_await guard_merge(removal, part);
    if (index_.pending.empty()) co_await begin_pending({.verb = Pending::Verb::remove, .name = entry.name});
    for (const auto& part : entry.disks)
        if (part.place == SnapshotPlace::external) co_await dissolve(removal, part);
    // One that only a redefinition speaks of may be anybody's.
    if (made_here(entry.memory_file)) co_await note_dissolved(entry.name, {}, {}, ImageFile{entry.memory_file, {}});
}

/// All tops that this domain knows of, and what lies below them.
Task<> SnapshotBook::learn_chains(ChainGraph& graph, std::stop_token stop) {
    std::vector<ImageFile> tops;
    const auto add = [&tops](const DomainConfig& config) {
        for (const auto& disk : config.devices.disks)
            if (auto top = top_image(disk)) tops.push_back(std::move(*top));
    };
    if (const auto run = running()) add(run->live);
    if (machine_.definition_ && machine_.definition_->problem().empty()) add(machine_.definition_->config());
    for (const auto* entry : index_.list())
        for (const auto& disk : entry->disks)
            if (disk.place == SnapshotPlace::external || disk.place == SnapshotPlace::internal) {
                tops.push_back(disk.overlay);
                tops.push_back(disk.frozen);
            }
    for (auto& top : tops) co_await graph.follow(std::move(top), stop);
}

/// Another external snapshot that has frozen the image.
const MomentEntry* SnapshotBook::freezer_of(const std::string& path, const std::string& but) const {
    for (const auto* entry : index_.list())
        if (entry->name != but && std::ranges::any_of(entry->disks, [&](const MomentDisk& disk) {
                return disk.place == SnapshotPlace::external && disk.frozen.path == path;
            }))
            return entry;
    return nullptr;
}

Task<> SnapshotBook::guard_merge(Removal& removal, const MomentDisk& part) {
    const auto& path = part.frozen.path;
    const auto refuse = [&](const std::string& image, const std::string& who) {
        throw Error{Code::invalid_state,
                    fmt::format("the snapshot '{}' cannot be deleted: {} {}. Give 'metadata-only' to forget the "
                                "snapshot and leave the images as they are",
                                removal.name, image, who)};
    };
    if (!co_await is_there(path)) refuse(path, "is not there");
    auto touched = removal.graph.on_top_of(path);
    touched.push_back(part.frozen);
    for (const auto& image : touched) {
        if (const auto user = machine_.context_.directory.user_of_image(image.path, machine_); !user.empty())
            refuse(image.path, fmt::format("is also used by domain '{}'", user));
        const auto strangers = co_await removal.graph.strangers(image.path, removal.job->stop());
        if (!strangers.empty())
            refuse(strangers.front(),
                   fmt::format("lies on {} and is of no snapshot of {}", image.path, machine_.words()));
    }
    if (const auto use = co_await use_by_others(touched, removal.job->stop()))
        refuse(use->image.path, fmt::format("lies below a disk of domain '{}'", use->domain));
    const auto overlays = removal.graph.on_top_of(path);
    if (overlays.size() == 1 && is_top(path))
        refuse(overlays.front().path, fmt::format("lies on {}, to which {} writes", path, machine_.words()));
    if (keeps_frozen(removal, path)) co_return;
    for (const auto& overlay : overlays)
        if (removal.graph.holds_snapshots(overlay.path))
            refuse(overlay.path,
                   fmt::format("has snapshots inside, which need {} below them as it is; delete those first", path));
}

Task<std::optional<ImageUse>> SnapshotBook::use_by_others(std::vector<ImageFile> images, std::stop_token stop) {
    std::vector<std::string> paths;
    for (auto& image : images) paths.push_back(std::move(image.path));
    return find_use(machine_.context_.directory.images_of_others(machine_), std::move(paths), this->images(),
                    machine_.context_.ports.workers, std::move(stop));
}

/// Somebody else needs it as it is.
bool SnapshotBook::keeps_frozen(const Removal& removal, const std::string& path) const {
    return freezer_of(path, removal.name) || is_top(path);
}

/// One disk's frozen image loses its reason.
Task<> SnapshotBook::dissolve(Removal& removal, MomentDisk part) {
    const auto frozen = part.frozen;
    const auto overlays = removal.graph.on_top_of(frozen.path);
    // What is inside it, on record or not, goes only with who asks for that.
    const bool removable = made_here(frozen.path) && !removal.graph.holds_snapshots(frozen.path);
    if (keeps_frozen(removal, frozen.path)) {
        co_await note_dissolved(removal.name, part.target, {}, {});
    } else if (overlays.empty()) {
        co_await note_dissolved(removal.name, part.target, {}, removable ? frozen : ImageFile{});
    } else if (overlays.size() == 1) {
        co_await commit(removal, part, overlays.front());
    } else {
        for (const auto& overlay : overlays) co_await pull(removal, part, overlay);
        co_await note_dissolved(removal.name, part.target, {}, removable ? frozen : ImageFile{});
    }
}

/// What `overlay` has goes down into the frozen image, which takes its place everywhere.
Task<> SnapshotBook::commit(Removal& removal, MomentDisk part, ImageFile overlay) {
    const auto frozen = part.frozen;
    const auto gone = made_here(overlay.path) ? overlay : ImageFile{};
    const std::map<std::string, ImageFile> moved{{overlay.path, frozen}};
    const auto target = disk_on(overlay.path, removal.graph);
    const auto job = removal.job;
    const auto progress = [job](std::uint64_t done, std::uint64_t total) { job->progress(done, total); };
    if (!target.empty()) {
        ChainMerge merge{.disk = target, .how = ChainMerge::How::commit, .upper = overlay.path, .lower = frozen.path};
        merge.settle = [this, &removal, part, overlay, moved, gone]() -> Task<> {
            return settle_commit(removal, part, overlay, moved, gone);
        };
        co_await merge_online(removal, std::move(merge));
        co_return;
    }
    co_await images().commit(overlay, frozen, progress, job->stop());
    co_await settle_commit(removal, part, overlay, moved, gone);
}

/// All that lay on `overlay` lies on the frozen image. A running machine's own chain is its QEMU's to change.
Task<> SnapshotBook::settle_commit(Removal& removal, MomentDisk part, ImageFile overlay,
                                   std::map<std::string, ImageFile> moved, ImageFile gone) {
    for (const auto& upper : removal.graph.on_top_of(overlay.path))
        if (disk_on(upper.path, removal.graph).empty())
            co_await images().rename_backing(upper, part.frozen, removal.job->stop());
    co_await note_merged(removal.name, part.target, std::move(moved), std::move(gone));
}

/// `overlay` takes up what only the frozen image has, and lies on what that lay on.
Task<> SnapshotBook::pull(Removal& removal, MomentDisk part, ImageFile overlay) {
    const auto* below = removal.graph.below(part.frozen.path);
    const auto job = removal.job;
    if (const auto target = disk_on(overlay.path, removal.graph); !target.empty()) {
        ChainMerge merge{.disk = target,
                         .how = ChainMerge::How::stream,
                         .upper = overlay.path,
                         .lower = below ? below->path : std::string{}};
        co_await merge_online(removal, std::move(merge));
        co_return;
    }
    co_await images().pull(
        overlay, below ? std::optional{*below} : std::nullopt,
        [job](std::uint64_t done, std::uint64_t total) { job->progress(done, total); }, job->stop());
}

Task<> SnapshotBook::merge_online(Removal& removal, ChainMerge merge) {
    const auto run = removal.run;
    if (machine_.run_ != run || run->over())
        throw Error{Code::invalid_state, fmt::format("{} ended while its images were merged", machine_.words())};
    run->resources->renew(in(merge_patience), removal.job->stop());
    const auto job = removal.job;
    co_await disk_work(run).merge(
        std::move(merge), *run->resources,
        [job](std::uint64_t done, std::uint64_t total) { job->progress(done, total); }, job->stop());
    settle_run(run);
}

/// The disk of the running machine in whose chain the image is; "" when there is none.
std::string SnapshotBook::disk_on(const std::string& path, const ChainGraph& graph) const {
    const auto run = running();
    if (!run) return {};
    for (const auto& disk : run->live.devices.disks)
        if (const auto top = top_image(disk))
            for (const auto& image : graph.chain(top->path))
                if (image.path == path) return disk.target.dev;
    return {};
}

/// The merge is done: whoever named an image that has moved names the one it went into. Durable when it returns.
Task<> SnapshotBook::note_merged(std::string name, std::string target, std::map<std::string, ImageFile> moved,
                                 ImageFile gone) {
    if (const auto run = running()) settle_run(run);
    co_await change_stored([&moved](DomainConfig& config) {
        for (auto& disk : config.devices.disks)
            for (const auto& [path, image] : moved) take_out(disk, path, image);
    });
    co_await rename_in_bodies(moved);
    co_await note_dissolved(std::move(name), std::move(target), std::move(moved), std::move(gone));
}

/// That disk of the snapshot needs no more work; `gone` is a file to be removed with the record.
Task<> SnapshotBook::note_dissolved(std::string name, std::string target, std::map<std::string, ImageFile> moved,
                                    ImageFile gone) {
    auto next = index_;
    for (const auto* entry : index_.list()) {
        auto changed = *entry;
        for (auto& disk : changed.disks)
            if (const auto found = moved.find(disk.frozen.path); found != moved.end()) disk.frozen = found->second;
        if (entry->name == name)
            if (auto* part = find_part(changed, target)) part->place = SnapshotPlace::no;
        if (changed != *entry) next.replace(std::move(changed));
    }
    auto pending =
        next.pending.empty() ? Pending{.verb = Pending::Verb::remove, .name = name} : decode_pending(next.pending);
    if (!gone.path.empty()) pending.images.push_back(std::move(gone));
    next.pending = encode(pending);
    co_await save(std::move(next));
}

Task<> SnapshotBook::settle_end(RunPtr run) {
    if (index_.pending.empty() || !machine_.definition_ || !machine_.definition_->problem().empty()) co_return;
    const auto note = decode_pending(index_.pending);
    const auto* found = note.verb == Pending::Verb::remove ? index_.find(note.name) : nullptr;
    if (!found) co_return;
    const auto top_of = [](const DomainConfig& config, const std::string& target) -> std::optional<ImageFile> {
        const auto& disks = config.devices.disks;
        const auto disk = std::ranges::find(disks, target, [](const Disk& one) { return one.target.dev; });
        return disk == disks.end() ? std::nullopt : top_image(*disk);
    };
    const auto entry = *found;
    for (const auto& part : entry.disks) {
        if (part.place != SnapshotPlace::external) continue;
        const auto ran = top_of(run->live, part.target);
        if (!ran || ran->path != part.frozen.path) continue;
        std::map<std::string, ImageFile> moved;
        ImageFile gone;
        if (const auto stored = top_of(machine_.definition_->config(), part.target);
            stored && stored->path != part.frozen.path) {
            moved[stored->path] = part.frozen;
            if (made_here(stored->path)) gone = *stored;
        }
        co_await note_merged(entry.name, part.target, std::move(moved), std::move(gone));
    }
}

/// The definitions in the records follow the images that have moved.
Task<> SnapshotBook::rename_in_bodies(std::map<std::string, ImageFile> moved) {
    std::vector<MomentEntry> entries;
    for (const auto* entry : index_.list()) entries.push_back(*entry);
    for (const auto& entry : entries) {
        const bool concerned =
            std::ranges::any_of(entry.disks, [&](const MomentDisk& disk) { return moved.contains(disk.frozen.path); });
        if (!concerned) continue;
        auto record = co_await read_record(entry);
        for (auto* text : {&record.domain, &record.inactive_domain}) {
            if (text->empty()) continue;
            auto config = understand(*text, false).config;
            for (auto& disk : config.devices.disks)
                for (const auto& [path, image] : moved) take_out(disk, path, image);
            *text = xml::format_kept(config);
        }
        co_await shelf_.write_body(entry.id, xml::format_snapshot(record, true));
    }
}

Task<> SnapshotBook::recover_removal(Pending note) {
    machine_.log(Priority::warning,
                 fmt::format("The deletion of the snapshot '{}' was interrupted and goes on", note.name));
    if (!index_.find(note.name)) {
        co_await end_pending();
        co_return;
    }
    JobSpec spec;
    spec.operation = "delete-snapshot";
    spec.domains = {machine_.view_.uuid};
    spec.action = "domain.snapshot";
    spec.internal = true;
    auto job = machine_.context_.jobs.run(
        std::move(spec), [this, name = note.name](JobPtr job) { return remove_one(std::move(job), name); });
    (void)co_await machine_.context_.jobs.wait(job, std::nullopt);
}

}  // namespace virtbus
