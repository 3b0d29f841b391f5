// SPDX-License-Identifier: LGPL-2.1-or-later
// Creating a snapshot. The note of what is under way names everything that is made, before it is made; the index gets
// the entry in the same write that takes the note away.
#include <fmt/format.h>

#include <algorithm>

#include "service/machine.hpp"
#include "service/moments/looking.hpp"
#include "service/moments/snapshot_plan.hpp"
#include "service/moments/snapshots.hpp"
#include "service/saved_file.hpp"
#include "service/volumes.hpp"
#include "service/xml/domain_xml.hpp"
#include "service/xml/kept_xml.hpp"
#include "service/xml/moment_xml.hpp"

namespace virtbus {

namespace {

/// Long enough for the largest memory on a slow disk; a hung one must not hold the domain for ever.
constexpr Duration overlay_patience{60'000};

}  // namespace

/// One creation while it is done.
struct SnapshotBook::Creation {
    JobPtr job;
    SnapshotCreateOptions options;
    Caller caller;
    MomentEntry entry;
    SnapshotConfig record;
    RunPtr run;        ///< null: it does not run
    bool ran = false;  ///< its CPUs did
    DomainConfig config;
    std::optional<SaveTarget> memory;
    std::vector<std::string> made;  ///< files
    bool noted = false;
    bool taken = false;  ///< there is no way back any more

    std::vector<NewOverlay> overlays() const {
        std::vector<NewOverlay> list;
        for (const auto& disk : entry.disks)
            if (disk.place == SnapshotPlace::external) list.push_back({disk.target, disk.overlay});
        return list;
    }
};

MomentJob SnapshotBook::create(std::string text, SnapshotCreateOptions options, Caller caller) {
    check_options(options);
    std::vector<std::string> unknown;
    auto wanted = xml::parse_snapshot(text, &unknown);
    if (options.validate) xml::require_known(unknown);
    auto name = wanted.name;
    if (name.empty() && options.redefine)
        throw Error{Code::invalid_xml, "a snapshot that is redefined needs its <name>"};
    if (name.empty()) {
        auto seconds = machine_.context_.ports.clock.now() / 1'000'000;
        while (find(std::to_string(seconds))) ++seconds;
        name = std::to_string(seconds);
    }
    xml::require_moment_name("snapshot", name);
    wanted.name = name;
    auto job = machine_.begin("create-snapshot", "domain.snapshot", caller, true,
                              [this, wanted = std::move(wanted), name, options, caller](Machine&, JobPtr job) {
                                  return options.redefine ? do_redefine(std::move(job), wanted, options)
                                                          : do_create(std::move(job), wanted, name, options, caller);
                              });
    return {std::move(name), std::move(job)};
}

Task<> SnapshotBook::do_create(JobPtr job, SnapshotConfig wanted, std::string name, SnapshotCreateOptions options,
                               Caller caller) {
    const auto hold = co_await machine_.lane_.enter(job, Lane::Subject::guest);
    machine_.require_listed();
    co_await machine_.finish_run();
    co_await recover();
    if (find(name))
        throw Error{Code::already_exists, fmt::format("{} has a snapshot '{}' already; choose another name, or give "
                                                      "'redefine' to replace its record",
                                                      machine_.words(), name)};
    auto creation = std::make_unique<Creation>();
    creation->job = job;
    creation->options = options;
    creation->caller = std::move(caller);
    creation->run = running();
    if (!creation->run) machine_.require_stored("create-snapshot");
    creation->config = creation->run ? creation->run->live : machine_.definition_->config();
    // The running one's volumes were looked up when it was started.
    Volumes volumes{machine_.context_};
    co_await volumes.resolve(creation->config, in(machine_.context_.patience.verb), job->stop());
    creation->ran = creation->run && machine_.view_.state == State::running;
    const SnapshotSubject subject{creation->config, machine_.view_.state, machine_.definition_.has_value()};
    auto& made = creation->entry;
    made = plan_snapshot(wanted, options, subject, machine_.context_.ports.clock.now());
    made.id = shelf_.new_id();
    made.parent = index_.current();
    if (made.kind != SnapshotKind::internal && !creation->run)
        machine_.require_no_managed_save("create-snapshot with overlays");
    if (made.kind != SnapshotKind::internal && machine_.definition_ && machine_.definition_->problem().empty()) {
        // An overlay lies on a file or a device: what is stored names that from now on, and no volume.
        auto stored = machine_.definition_->config();
        co_await volumes.resolve(stored, in(machine_.context_.patience.verb), job->stop());
        co_await change_stored([&stored](DomainConfig& config) {
            for (auto& disk : config.devices.disks)
                for (const auto& found : stored.devices.disks)
                    if (disk.type == StorageType::volume && disk.target.dev == found.target.dev) disk = found;
        });
    }
    auto& record = creation->record;
    record = record_of(made, wanted);
    record.domain = xml::format_kept(creation->config);
    if (creation->run && machine_.definition_ && machine_.live_differs())
        record.inactive_domain = machine_.definition_->text();
    co_await require_overlays_free(*creation);
    if (creation->run)
        co_await take_running(*creation);
    else
        co_await take_inactive(*creation);
    if (options.halt && creation->run && !creation->run->over()) {
        creation->run->guest->kill(false);
        co_await machine_.see_guest_end(in(machine_.context_.patience.kill));
        co_await machine_.finish_run();
    }
}

// ---- a machine that does not run
// -----------------------------------------------------------------------------------------

Pending SnapshotBook::note_of(const Creation& creation) const {
    return {.verb = Pending::Verb::create,
            .name = creation.entry.name,
            .entry = creation.entry,
            .running = creation.ran,
            .active = creation.run != nullptr,
            .frozen = creation.options.quiesce,
            .keep_overlays = creation.options.reuse_external,
            .unrecorded = creation.options.no_metadata,
            .temporary = creation.memory ? creation.memory->file->temporary : std::string{}};
}

Task<> SnapshotBook::require_overlays_free(const Creation& creation) {
    if (creation.options.reuse_external) co_return;
    auto& workers = machine_.context_.ports.workers;
    const auto stop = creation.job->stop();
    for (const auto& overlay : creation.overlays())
        if (!overlay.image.block_device && (co_await look_at(workers, overlay.image.path, stop)).taken)
            throw Error{Code::already_exists,
                        fmt::format("the overlay {} for disk '{}' is there already and is not empty; remove it, name "
                                    "another, or give 'reuse-external'",
                                    overlay.image.path, overlay.disk)};
    if (!creation.entry.memory_file.empty() && (co_await look_at(workers, creation.entry.memory_file, stop)).taken)
        throw Error{Code::already_exists,
                    fmt::format("the file {} for the memory is there already and is not empty; remove it or name "
                                "another",
                                creation.entry.memory_file)};
}

Task<> SnapshotBook::take_inactive(Creation& creation) {
    co_await begin_pending(note_of(creation));
    std::exception_ptr error;
    try {
        auto& tool = images_of(creation.config);
        std::vector<std::function<Task<>()>> work;
        for (const auto& disk : creation.entry.disks)
            if (disk.place == SnapshotPlace::internal)
                work.emplace_back([&tool, image = disk.frozen, tag = creation.entry.name, stop = creation.job->stop()] {
                    return tool.take(image, tag, stop);
                });
        if (!creation.options.no_metadata) {
            work.emplace_back([this, &creation] { return write_body(creation); });
            work.emplace_back([this, &creation] { return keep_stores(creation.entry, creation.config); });
        }
        co_await together(std::move(work));
        co_await make_overlays(creation);
        for (const auto& disk : creation.entry.disks)
            if (disk.place == SnapshotPlace::external)
                co_await carry_bitmaps(tool, disk.overlay, disk.frozen, creation.job->stop());
        creation.taken = true;
        co_await record_creation(note_of(creation));
    } catch (...) {
        error = std::current_exception();
    }
    if (!error) co_return;
    if (!creation.taken) co_await undo_creation(note_of(creation), creation.made);
    std::rethrow_exception(error);
}

Task<> SnapshotBook::write_body(const Creation& creation) {
    co_await shelf_.write_body(creation.entry.id, xml::format_snapshot(creation.record, true));
}

Task<> SnapshotBook::make_overlays(Creation& creation) {
    auto& tool = images_of(creation.config);
    for (const auto& disk : creation.entry.disks) {
        if (disk.place != SnapshotPlace::external) continue;
        if (!creation.options.reuse_external) {
            co_await tool.make_overlay(disk.overlay, disk.frozen, creation.job->stop());
            if (!disk.overlay.block_device) creation.made.push_back(disk.overlay.path);
            continue;
        }
        const auto facts = co_await tool.examine(disk.overlay, creation.job->stop());
        if (!facts.backing || facts.backing->path != disk.frozen.path)
            throw Error{Code::unsupported_configuration,
                        fmt::format("the overlay {} that is to be reused for disk '{}' lies on {}; it must lie on {}",
                                    disk.overlay.path, disk.target, facts.backing ? facts.backing->path : "nothing",
                                    disk.frozen.path)};
    }
}

// ---- a machine that runs
// -------------------------------------------------------------------------------------------------

Task<> SnapshotBook::take_running(Creation& creation) {
    if (creation.options.quiesce) co_await freeze(creation);
    std::exception_ptr error;
    try {
        co_await begin_pending(note_of(creation));
        creation.noted = true;
        if (!creation.options.no_metadata) co_await write_body(creation);
        if (creation.entry.kind == SnapshotKind::internal) {
            creation.job->phase("saving");
            co_await disk_work(creation.run)
                .take_internal(
                    internal_of(creation.entry, creation.config),
                    [job = creation.job](std::uint64_t done, std::uint64_t total) { job->progress(done, total); },
                    creation.job->stop());
            co_await record_creation(note_of(creation));
        } else {
            co_await make_overlays(creation);
            co_await take_outside(creation);
        }
    } catch (...) {
        error = std::current_exception();
    }
    if (creation.options.quiesce) co_await thaw(creation.run);
    if (!error) co_return;
    if (creation.noted && !creation.taken) co_await undo_creation(note_of(creation), creation.made);
    std::rethrow_exception(error);
}

Task<> SnapshotBook::freeze(Creation& creation) {
    auto* agent = creation.run->guest->agent();
    if (!agent)
        throw Error{Code::agent_unavailable, fmt::format("{} has no guest agent to quiesce it", machine_.words())};
    creation.job->phase("freezing");
    co_await agent->freeze(creation.job->stop());
}

Task<> SnapshotBook::thaw(RunPtr run) {
    auto* agent = run->guest && !run->over() ? run->guest->agent() : nullptr;
    if (!agent) co_return;
    try {
        co_await agent->thaw();
    } catch (const std::exception& e) {
        machine_.log(Priority::warning, fmt::format("Its file systems may still be frozen: {}", e.what()));
    }
}

/// Overlays, with the memory before when it is wanted; the CPUs stand still in between, and until all is on record.
Task<> SnapshotBook::take_outside(Creation& creation) {
    const auto run = creation.run;
    const bool memory = !creation.entry.memory_file.empty();
    const bool halt = creation.ran && (memory || has_stores(creation.config));
    std::exception_ptr error;
    try {
        if (memory)
            co_await take_memory(creation);
        else if (halt)
            co_await run->guest->suspend(creation.job->stop());
        if (!creation.options.no_metadata) co_await keep_stores(creation.entry, creation.config);
        machine_.require_guest("create-snapshot");
        auto& resources = *run->resources;
        resources.renew(in(overlay_patience), creation.job->stop());
        co_await disk_work(run).put_overlays(creation.overlays(), resources, creation.job->stop());
        resources.keep();
        creation.taken = true;
        settle_run(run);
        co_await record_creation(note_of(creation));
    } catch (...) {
        error = std::current_exception();
    }
    if (halt && !run->over()) co_await let_run(run, memory);
    if (error) std::rethrow_exception(error);
}

/// The guest goes on; what keeps it from that is logged, since the snapshot stands or falls without it.
Task<> SnapshotBook::let_run(RunPtr run, bool saved) {
    try {
        if (saved)
            co_await run->guest->undo_save(true);
        else
            co_await run->guest->resume({});
    } catch (const std::exception& e) {
        machine_.log(Priority::warning, fmt::format("After a snapshot it may stand still: {}", e.what()));
    }
}

Task<> SnapshotBook::take_memory(Creation& creation) {
    auto& ports = machine_.context_.ports;
    auto as = co_await rights_of_caller(ports, creation.caller.uid);
    SaveHeader header{.id = creation.entry.id,
                      .uuid = machine_.view_.uuid,
                      .name = machine_.view_.name,
                      .driver = creation.run->driver->name(),
                      .running = creation.ran,
                      .created = ports.clock.now(),
                      .xml = xml::format_kept(creation.config)};
    creation.memory = co_await begin_saved_file(ports, creation.entry.memory_file, std::move(header), Compression::none,
                                                false, std::move(as));
    std::exception_ptr error;
    try {
        co_await begin_pending(note_of(creation));
        creation.job->phase("saving");
        auto sink = open_sink(ports, *creation.memory);
        std::exception_ptr failed;
        try {
            co_await creation.run->guest->save(
                std::move(sink.target),
                [job = creation.job](std::uint64_t done, std::uint64_t total) { job->progress(done, total); },
                creation.job->stop(), creation.options.live);
        } catch (...) {
            failed = std::current_exception();
        }
        if (failed) sink.pump.rethrow_error();
        if (failed) std::rethrow_exception(failed);
        const auto moved = co_await sink.pump.finish(in(saving_end), creation.job->stop());
        co_await commit_saved_file(ports, *creation.memory, moved, creation.job->stop());
        creation.made.push_back(creation.entry.memory_file);
    } catch (...) {
        error = std::current_exception();
    }
    if (!error) co_return;
    co_await ports.files.discard(creation.memory->file);
    std::rethrow_exception(error);
}

// ---- the end of it
// -------------------------------------------------------------------------------------------------------

/// The stored definition follows the disks, then the index gets the entry and loses the note in one write.
Task<> SnapshotBook::record_creation(Pending note) {
    auto made = std::move(*note.entry);
    if (made.kind != SnapshotKind::internal)
        co_await change_stored([&made](DomainConfig& config) {
            for (auto& disk : config.devices.disks)
                for (const auto& part : made.disks) {
                    if (part.place != SnapshotPlace::external || part.target != disk.target.dev) continue;
                    const auto top = top_image(disk);
                    if (top ? top->path == part.frozen.path : part.frozen.path.empty()) put_overlay(disk, part.overlay);
                }
        });
    auto next = index_;
    next.pending.clear();
    if (!note.keep_overlays)
        for (const auto& disk : made.disks)
            if (disk.place == SnapshotPlace::external && !disk.overlay.block_device)
                next.made.insert(disk.overlay.path);
    if (!made.memory_file.empty()) next.made.insert(made.memory_file);
    if (!note.unrecorded) {
        const auto name = made.name;
        next.add(std::move(made));
        next.set_current(name);
    }
    co_await save(std::move(next));
}

/// Nothing of it stays: neither tags nor the files in `made`. What cannot be removed is logged.
Task<> SnapshotBook::undo_creation(Pending note, std::vector<std::string> made) {
    const auto run = running();
    const auto& entry = *note.entry;
    std::exception_ptr error;
    try {
        if (run && note.running && machine_.view_.state == State::paused)
            co_await let_run(run, !entry.memory_file.empty());
        if (entry.kind == SnapshotKind::internal) co_await remove_tags(entry, run, {});
        for (const auto& path : made) co_await try_remove_file(path);
        if (!note.temporary.empty()) co_await machine_.context_.ports.files.remove_temporary(note.temporary, {});
        co_await shelf_.remove(entry.id);
        co_await end_pending();
    } catch (const std::exception& e) {
        machine_.log(Priority::warning,
                     fmt::format("What the snapshot '{}' has left behind was not removed: {}", entry.name, e.what()));
    }
}

/// After a crash: forward when the disks write to their overlays, back when they do not.
Task<> SnapshotBook::recover_creation(Pending note) {
    const auto run = running();
    auto& entry = *note.entry;
    bool outside = false, taken = true, there = true;
    for (const auto& disk : entry.disks) {
        if (disk.place != SnapshotPlace::external) continue;
        outside = true;
        taken = taken && writes_to(disk.target, disk.overlay.path);
        there = there && co_await is_there(disk.overlay.path);
    }
    // The guest went with the daemon, and may have written to the overlays before: with them nothing is lost.
    if (outside && !taken && note.active && !run) taken = there;
    if (!outside || !taken) {
        std::vector<std::string> made;
        if (!note.keep_overlays)
            for (const auto& disk : entry.disks)
                if (disk.place == SnapshotPlace::external && !disk.overlay.block_device)
                    made.push_back(disk.overlay.path);
        if (!entry.memory_file.empty()) made.push_back(entry.memory_file);
        machine_.log(Priority::warning,
                     fmt::format("The creation of the snapshot '{}' was interrupted and is undone", entry.name));
        co_await undo_creation(note, std::move(made));
        if (entry.kind == SnapshotKind::internal && !run) co_await mend_images(entry, {});
    } else {
        machine_.log(Priority::warning,
                     fmt::format("The creation of the snapshot '{}' was interrupted and is finished", entry.name));
        if (!entry.memory_file.empty() && !co_await is_there(entry.memory_file)) {
            co_await drop_memory(entry);
            if (!note.temporary.empty()) co_await machine_.context_.ports.files.remove_temporary(note.temporary, {});
        }
        if (run) settle_run(run);
        const bool memory = !entry.memory_file.empty(), was_running = note.running;
        co_await record_creation(note);
        if (run && was_running && machine_.view_.state == State::paused) co_await let_run(run, memory);
    }
    if (run && note.frozen) co_await thaw(run);
}

/// Its memory was never written to the end: what is left is the disks.
Task<> SnapshotBook::drop_memory(MomentEntry& entry) {
    entry.memory_file.clear();
    entry.kind = SnapshotKind::disk_only;
    entry.state = "disk-snapshot";
    auto record = co_await read_record(entry);
    record.memory.reset();
    record.state = entry.state;
    co_await shelf_.write_body(entry.id, xml::format_snapshot(record, true));
}

}  // namespace virtbus
