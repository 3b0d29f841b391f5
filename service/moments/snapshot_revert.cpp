// SPDX-License-Identifier: LGPL-2.1-or-later
// Reverting. Inside images: a safety snapshot of each first, which is applied again when it does not go well. Outside:
// a fresh overlay on what the snapshot has frozen; nothing that exists is written to.
#include <fmt/format.h>

#include <algorithm>

#include "service/machine.hpp"
#include "service/moments/chain_graph.hpp"
#include "service/moments/checkpoints.hpp"
#include "service/moments/snapshot_plan.hpp"
#include "service/moments/snapshots.hpp"
#include "service/saved_file.hpp"
#include "service/xml/domain_xml.hpp"
#include "service/xml/kept_xml.hpp"

namespace virtbus {

struct SnapshotBook::Reversion {
    JobPtr job;
    RevertOptions options;
    Caller caller;
    MomentEntry entry;
    SnapshotConfig record;
    DomainConfig config;  ///< what shall run, or be stored
    DomainConfig stored;  ///< what shall be stored
    DomainConfig before;  ///< what is now
    RunPtr run;
    bool memory = false;            ///< the snapshot has it
    bool activate = false;          ///< it is to be active afterwards
    bool let_run = false;           ///< with its CPUs running
    bool ran = false;               ///< its CPUs did
    bool touched = false;           ///< what was before must be brought back
    bool keep_process = false;      ///< the guest takes the state up, without a new process
    std::vector<std::string> made;  ///< overlays

    bool inside() const { return entry.kind == SnapshotKind::internal; }
};

JobPtr SnapshotBook::revert(std::string name, RevertOptions options, Caller caller) {
    get(name);
    if (options.running && options.paused)
        throw Error{Code::conflicting_options, "'running' and 'paused' exclude each other; give one of them"};
    return machine_.begin("revert-to-snapshot", "domain.snapshot", caller, true,
                          [this, name, options, caller](Machine&, JobPtr job) {
                              return do_revert(std::move(job), name, options, caller);
                          });
}

Task<> SnapshotBook::do_revert(JobPtr job, std::string name, RevertOptions options, Caller caller) {
    const auto hold = co_await machine_.lane_.enter(job, Lane::Subject::guest);
    machine_.require_listed();
    co_await machine_.finish_run();
    co_await recover();
    get(name);
    auto reversion = std::make_unique<Reversion>();
    auto& it = *reversion;
    it.job = job;
    it.options = options;
    it.caller = std::move(caller);
    it.entry = index_.get(name);
    it.run = running();
    if (!it.run) machine_.require_state({State::shutoff}, "revert");
    it.ran = it.run && machine_.view_.state == State::running;
    if (it.entry.has_domain) it.record = co_await read_record(it.entry);
    const bool was_active = it.entry.state == word(State::running) || it.entry.state == word(State::paused);
    it.memory = was_active && (it.inside() || !it.entry.memory_file.empty());
    it.activate = options.running || options.paused || it.memory;
    it.let_run = options.running || (!options.paused && it.entry.state == word(State::running));
    it.before = current_config();
    settle_definitions(it);
    co_await guard_revert(it);
    std::exception_ptr error;
    try {
        if (it.inside())
            co_await revert_internal(it);
        else
            co_await revert_external(it);
    } catch (...) {
        error = std::current_exception();
    }
    machine_.vanish_if_gone();
    if (error) std::rethrow_exception(error);
}

/// What shall run and what shall be stored, as the snapshot has it; what is now where it has nothing.
void SnapshotBook::settle_definitions(Reversion& it) const {
    const auto& now = it.before;
    it.config = it.record.domain.empty() ? now : understand(it.record.domain, false).config;
    it.stored = it.record.inactive_domain.empty() ? it.config : understand(it.record.inactive_domain, false).config;
    for (auto* config : {&it.config, &it.stored}) {
        *config = xml::without_run(*config);  // its state speaks of aliases
        config->name = machine_.view_.name;   // it may have been renamed since
        config->uuid = machine_.view_.uuid;
        config->id.reset();
    }
    if (it.inside()) return;
    for (auto* config : {&it.config, &it.stored})
        for (auto& disk : config->devices.disks)
            for (const auto& part : it.entry.disks)
                if (part.target == disk.target.dev && !part.frozen.path.empty() && top_image(disk) &&
                    top_image(disk)->path != part.frozen.path && part.place != SnapshotPlace::no)
                    set_top(disk, part.frozen);
}

Task<> SnapshotBook::guard_revert(Reversion& it) {
    const auto risky = [&](const std::string& why) {
        if (it.options.force) return;
        throw Error{Code::revert_risky, fmt::format("reverting {} to the snapshot '{}': {}. Give 'force' to do it all "
                                                    "the same",
                                                    machine_.words(), it.entry.name, why)};
    };
    if (!machine_.definition_ && !it.activate)
        throw Error{Code::invalid_state,
                    fmt::format("{} is transient and the snapshot '{}' has no memory: it would be gone. Give 'running' "
                                "or 'paused'",
                                machine_.words(), it.entry.name)};
    if (!it.entry.has_domain) risky("it carries no definition, so nobody knows whether the one of now fits its disks");
    if (!it.memory && machine_.view_.has_managed_save)
        risky("the domain has a managed-save image, which would not fit the disks any more and is removed");
    if (it.run && it.memory) {
        const auto difference = xml::abi_difference(xml::without_live(it.run->live), it.config);
        it.keep_process = it.inside() && !difference && !it.options.reset_nvram && writes_to_all_of(it.entry);
        if (difference)
            risky(fmt::format("the machine that runs is another one ({}), and its process must be replaced",
                              *difference));
    }
    if (it.inside() && machine_.checkpoints_->size() > 0)
        risky("an image that keeps bitmaps cannot go back to a snapshot inside it, so all checkpoints are lost");
    if (newer_checkpoints(it.entry.creation_time)) risky("checkpoints have been made since, whose bitmaps are lost");
    for (const auto& part : it.entry.disks) {
        if (part.place == SnapshotPlace::no || part.frozen.path.empty()) continue;
        if (!co_await is_there(part.frozen.path))
            throw Error{Code::invalid_state,
                        fmt::format("the image {} of disk '{}' is not there any more", part.frozen.path, part.target)};
    }
    if (!it.inside() && !it.entry.memory_file.empty() && !co_await is_there(it.entry.memory_file))
        throw Error{Code::invalid_state, fmt::format("the file {} with the memory of the snapshot '{}' is not there "
                                                     "any more",
                                                     it.entry.memory_file, it.entry.name)};
    if (it.inside()) co_await guard_inside(it);
}

/// Its process has the very images open that the snapshot is inside of.
bool SnapshotBook::writes_to_all_of(const MomentEntry& entry) const {
    return std::ranges::all_of(entry.disks, [this](const MomentDisk& part) {
        return part.place != SnapshotPlace::internal || writes_to(part.target, part.frozen.path);
    });
}

/// What lies on an image, or is to be gone back to in it, would rest on other bytes than it was made for.
Task<> SnapshotBook::guard_inside(Reversion& it) {
    ChainGraph graph{images(), machine_.context_.ports.workers};
    co_await learn_chains(graph, it.job->stop());
    for (const auto& part : it.entry.disks) {
        if (part.place != SnapshotPlace::internal) continue;
        const auto above = graph.on_top_of(part.frozen.path);
        if (!above.empty())
            throw Error{
                Code::invalid_state,
                fmt::format("the snapshot '{}' is inside {}, and {} lies on that; delete the external snapshots "
                            "made since first",
                            it.entry.name, part.frozen.path, above.front().path)};
        if (const auto* other = freezer_of(part.frozen.path, it.entry.name))
            throw Error{Code::invalid_state,
                        fmt::format("the snapshot '{}' is inside {}, which the external snapshot '{}' has frozen; "
                                    "delete that one first",
                                    it.entry.name, part.frozen.path, other->name)};
        if (const auto user = machine_.context_.directory.user_of_image(part.frozen.path, machine_); !user.empty())
            throw Error{Code::invalid_state, fmt::format("{} is also used by domain '{}'", part.frozen.path, user)};
        if (const auto use = co_await use_by_others({part.frozen}, it.job->stop()))
            throw Error{Code::invalid_state,
                        fmt::format("{} lies below a disk of domain '{}'", part.frozen.path, use->domain)};
    }
}

// ---- inside the images
// ---------------------------------------------------------------------------------------------------

Task<> SnapshotBook::revert_internal(Reversion& it) {
    Pending note{.verb = Pending::Verb::revert, .name = it.entry.name};
    if (machine_.definition_) note.definition = machine_.definition_->text();
    co_await machine_.checkpoints_->drop_newer(0);
    co_await require_no_bitmaps(it);
    if (!it.options.no_undo) {
        note.tag = "virtbus-undo-" + xml::random_uuid().substr(0, 8);
        for (const auto& part : it.entry.disks)
            if (part.place == SnapshotPlace::internal) note.images.push_back(part.frozen);
    }
    co_await begin_pending(note);
    std::exception_ptr error;
    try {
        co_await make_safe(it, note);
        if (it.run && !it.keep_process) co_await stop_run();
        if (!note.tag.empty() && !it.keep_process) co_await keep_undo_stores(it.config);
        it.touched = true;
        if (it.keep_process)
            co_await load_into_guest(it);
        else
            co_await apply_to_images(it);
        co_await store_reverted(it);
        if (it.activate && !it.keep_process) co_await start_reverted(it);
        co_await end_reversion(it, {}, note.tag);
    } catch (...) {
        error = std::current_exception();
    }
    if (!error) co_return;
    if (!it.touched) {
        co_await drop_safety(note);
        co_await end_pending();
        if (it.ran && running() == it.run) co_await let_run(it.run, false);
        std::rethrow_exception(error);
    }
    // A guest that has taken up half of a state must not go on.
    if (running()) co_await stop_run();
    co_await undo_reversion(std::move(note));
    std::rethrow_exception(error);
}

/// Those of others; of a guest that runs QEMU itself says so before it touches a disk.
Task<> SnapshotBook::require_no_bitmaps(Reversion& it) {
    if (it.run) co_return;
    for (const auto& part : it.entry.disks) {
        if (part.place != SnapshotPlace::internal) continue;
        const auto facts = co_await images().examine(part.frozen, it.job->stop());
        if (!facts.bitmaps.empty())
            throw Error{Code::invalid_state,
                        fmt::format("the image {} of disk '{}' keeps the bitmap '{}', which is of no checkpoint; an "
                                    "image with bitmaps cannot go back to a snapshot inside it. Remove it with "
                                    "'qemu-img bitmap --remove'",
                                    part.frozen.path, part.target, facts.bitmaps.front().name)};
    }
}

/// While the guest is still there: without room for what protects its disks it goes on as it was.
Task<> SnapshotBook::make_safe(Reversion& it, const Pending& note) {
    if (note.tag.empty()) co_return;
    const auto run = running();
    InternalSnapshot online{.tag = note.tag, .disks = {}, .store = false};
    std::vector<std::function<Task<>()>> work;
    for (const auto& part : it.entry.disks) {
        if (part.place != SnapshotPlace::internal) continue;
        if (run && writes_to(part.target, part.frozen.path))
            online.disks.push_back(part.target);
        else
            work.emplace_back([&tool = images(), image = part.frozen, tag = note.tag, stop = it.job->stop()] {
                return tool.take(image, tag, stop);
            });
    }
    if (run && machine_.view_.state == State::running) co_await run->guest->suspend(it.job->stop());
    if (!online.disks.empty()) co_await disk_work(run).take_disks_only(std::move(online), it.job->stop());
    co_await together(std::move(work));
}

Task<> SnapshotBook::load_into_guest(Reversion& it) {
    it.job->phase("loading");
    const auto job = it.job;
    co_await disk_work(it.run).load_internal(
        internal_of(it.entry, it.run->live),
        [job](std::uint64_t done, std::uint64_t total) { job->progress(done, total); }, job->stop());
    if (it.let_run) co_await it.run->guest->resume(job->stop());
}

Task<> SnapshotBook::apply_to_images(Reversion& it) {
    std::vector<std::function<Task<>()>> work;
    auto& tool = images();
    for (const auto& part : it.entry.disks)
        if (part.place == SnapshotPlace::internal)
            work.emplace_back([&tool, image = part.frozen, tag = it.entry.name, stop = it.job->stop()] {
                return tool.apply(image, tag, stop);
            });
    co_await together(std::move(work));
    co_await bring_back_stores(it.entry, it.config, !it.options.reset_nvram);
}

Task<> SnapshotBook::drop_safety(const Pending& note) {
    if (note.tag.empty()) co_return;
    try {
        if (const auto run = running()) {
            std::vector<std::string> disks;
            for (const auto& disk : run->live.devices.disks)
                if (const auto top = top_image(disk); top && std::ranges::count(note.images, *top) > 0)
                    disks.push_back(disk.target.dev);
            co_await disk_work(run).remove_internal({.tag = note.tag, .disks = std::move(disks), .store = false}, {});
        } else {
            for (const auto& image : note.images) co_await images().remove(image, note.tag, {});
        }
        co_await drop_undo_stores();
    } catch (const std::exception& e) {
        machine_.log(Priority::warning,
                     fmt::format("The safety snapshots '{}' of a revert were not removed: {}", note.tag, e.what()));
    }
}

/// Back to what was before, as far as there are safety snapshots.
Task<> SnapshotBook::undo_reversion(Pending note) {
    try {
        const auto facts = [this](ImageFile image) { return images().examine(std::move(image), {}); };
        for (const auto& image : note.images) {
            const auto known = co_await facts(image);
            // One that was never made protects nothing, since nothing was touched before all were made.
            if (std::ranges::count(known.tags, note.tag) == 0) continue;
            co_await images().apply(image, note.tag, {});
        }
        if (!note.tag.empty()) co_await bring_back_undo_stores(current_config());
        if (machine_.definition_ && !note.definition.empty() && machine_.definition_->text() != note.definition) {
            auto known = understand(note.definition, false);
            co_await machine_.store(std::move(known.config), std::move(known.unknown));
        }
        co_await drop_safety(note);
        if (note.entry)
            for (const auto& part : note.entry->disks)
                if (part.place == SnapshotPlace::external && !is_top(part.overlay.path))
                    co_await try_remove_file(part.overlay.path);
        co_await end_pending();
    } catch (const std::exception& e) {
        machine_.log(Priority::error, fmt::format("Undoing the revert to '{}' did not work: {}. Its disks have their "
                                                  "former content in the internal snapshots '{}'",
                                                  note.name, e.what(), note.tag));
    }
}

// ---- outside
// -------------------------------------------------------------------------------------------------------------

Task<> SnapshotBook::revert_external(Reversion& it) {
    Pending note{.verb = Pending::Verb::revert, .name = it.entry.name};
    if (machine_.definition_) note.definition = machine_.definition_->text();
    note.entry = it.entry;
    for (auto& part : note.entry->disks)
        if (part.place == SnapshotPlace::external) part.overlay = co_await fresh_overlay(part);
    co_await begin_pending(note);
    std::exception_ptr error;
    try {
        for (const auto& part : note.entry->disks) {
            if (part.place != SnapshotPlace::external) continue;
            co_await images().make_overlay(part.overlay, part.frozen, it.job->stop());
            for (auto* config : {&it.config, &it.stored})
                for (auto& disk : config->devices.disks)
                    if (disk.target.dev == part.target) put_overlay(disk, part.overlay);
        }
        if (it.run) co_await stop_run();
        for (const auto& part : note.entry->disks)
            if (part.place == SnapshotPlace::external)
                co_await carry_bitmaps(images(), part.overlay, part.frozen, it.job->stop());
        co_await bring_back_stores(it.entry, it.config, !it.options.reset_nvram);
        co_await store_reverted(it);
    } catch (...) {
        error = std::current_exception();
    }
    if (error) {
        co_await undo_reversion(std::move(note));
        std::rethrow_exception(error);
    }
    co_await end_reversion(it, note.entry->disks, {});
    if (it.activate) co_await start_reverted(it);
}

/// A name that nothing has: the frozen image's with a number.
Task<ImageFile> SnapshotBook::fresh_overlay(MomentDisk part) {
    const auto base = part.overlay.path.empty() ? part.frozen.path : part.overlay.path;
    for (unsigned number = 1;; ++number) {
        auto path = fmt::format("{}.{}", base, number);
        if (!co_await is_there(path)) co_return ImageFile{std::move(path), "qcow2"};
    }
}

// ---- what both need
// ------------------------------------------------------------------------------------------------------

Task<> SnapshotBook::stop_run() {
    const auto run = running();
    if (!run) co_return;
    // The machine goes on to exist without a definition, too: what follows gives it one or starts it.
    machine_.outlives_run_ = true;
    run->guest->kill(false);
    std::exception_ptr error;
    try {
        co_await machine_.see_guest_end(in(machine_.context_.patience.kill));
        co_await machine_.finish_run();
    } catch (...) {
        error = std::current_exception();
    }
    machine_.outlives_run_ = false;
    if (error) std::rethrow_exception(error);
}

Task<> SnapshotBook::store_reverted(Reversion& it) {
    if (!machine_.definition_) co_return;
    if (it.entry.has_domain || !it.inside()) co_await machine_.store(it.stored, {});
    if (machine_.view_.has_managed_save && !it.memory) co_await machine_.drop_managed_save();
}

/// What was written since the snapshot that was current is given up with the revert: overlays that virtbus made and
/// nothing lies on or speaks of.
Task<> SnapshotBook::end_reversion(Reversion& it, std::vector<MomentDisk> fresh, std::string tag) {
    auto next = index_;
    for (const auto& part : fresh)
        if (part.place == SnapshotPlace::external) next.made.insert(part.overlay.path);
    next.set_current(it.entry.name);
    Pending rest{.verb = Pending::Verb::tidy, .name = it.entry.name};
    rest.tag = std::move(tag);
    for (const auto& disk : it.before.devices.disks) {
        const auto top = top_image(disk);
        if (!top || !made_here(top->path) || is_top(top->path) || uses(top->path)) continue;
        // Nor are snapshots inside it that nobody speaks of any more.
        if (!(co_await images().examine(*top, {})).tags.empty()) continue;
        rest.images.push_back(*top);
    }
    next.pending = rest.images.empty() && rest.tag.empty() ? std::string{} : encode(rest);
    co_await save(std::move(next));
    if (!index_.pending.empty()) co_await tidy();
    co_await machine_.checkpoints_->drop_newer(it.entry.creation_time);
}

Task<> SnapshotBook::start_reverted(Reversion& it) {
    StartOptions options;
    options.reset_nvram = it.options.reset_nvram;
    options.paused = !it.let_run;
    std::shared_ptr<Incoming> incoming;
    if (it.memory && !it.inside()) {
        incoming = std::make_shared<Incoming>();
        incoming->saved = co_await open_saved_file(machine_.context_.ports, it.entry.memory_file, std::nullopt);
        require_complete(*incoming->saved);
        incoming->running = it.let_run;
    }
    if (it.memory && it.inside()) options.paused = true;
    co_await machine_.launch(it.job, it.config, {}, options, it.caller, std::move(incoming));
    if (!it.memory || !it.inside()) co_return;
    const auto run = running();
    std::exception_ptr error;
    try {
        it.run = run;
        co_await load_into_guest(it);
    } catch (...) {
        error = std::current_exception();
    }
    if (!error) co_return;
    co_await stop_run();
    std::rethrow_exception(error);
}

Task<> SnapshotBook::recover_reversion(Pending note) {
    machine_.log(Priority::warning,
                 fmt::format("The revert to the snapshot '{}' was interrupted and is undone", note.name));
    if (running()) co_await stop_run();
    co_await undo_reversion(std::move(note));
}

}  // namespace virtbus
