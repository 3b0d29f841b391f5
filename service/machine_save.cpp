// SPDX-License-Identifier: LGPL-2.1-or-later
// Save, managed save and what restoring adds to a start. At every moment either the guest goes on or a whole image is
// there: the status file says what was under way, for a daemon that takes over.
#include <fmt/format.h>

#include <algorithm>

#include "service/machine.hpp"
#include "service/names.hpp"
#include "service/saved_file.hpp"
#include "service/xml/domain_xml.hpp"
#include "service/xml/kept_xml.hpp"

namespace virtbus {

namespace {

/// Tells a job how far it is, twice a second.
class ProgressTicker {
public:
    ProgressTicker(Loop& loop, JobPtr job, const StatePump& pump, std::uint64_t total)
        : loop_{loop}, job_{std::move(job)}, pump_{pump}, total_{total} {
        tick();
    }

private:
    void tick() {
        job_->progress(pump_.moved(), total_);
        timer_ = loop_.after(Duration{500}, [this] { tick(); });
    }
    Loop& loop_;
    JobPtr job_;
    const StatePump& pump_;
    std::uint64_t total_;
    Registration timer_;
};

void require_one_state(bool running, bool paused) {
    if (running && paused)
        throw Error{Code::conflicting_options, "'running' and 'paused' exclude each other; give one of them"};
}

bool is_off(const CpuFeature& feature) {
    return feature.policy == "disable" || feature.policy == "forbid";
}

/// A processor that is to be like the host's is the one that was chosen when the machine booted, unless the definition
/// says something of it that this one contradicts.
void keep_chosen_cpu(DomainConfig& config, const DomainConfig& before) {
    if (!config.cpu || !before.cpu || !before.cpu->model || before.cpu->mode != "custom") return;
    auto& cpu = *config.cpu;
    const auto& chosen = *before.cpu;
    if (cpu.mode != "host-model" && cpu.match != "minimum") return;
    for (const auto& said : cpu.features) {
        const auto found = std::ranges::find(chosen.features, said.name, &CpuFeature::name);
        const bool off = found == chosen.features.end() || is_off(*found);
        if (said.policy != "optional" && off != is_off(said)) return;
    }
    cpu.mode = chosen.mode;
    cpu.match = chosen.match;
    cpu.check = chosen.check;
    cpu.model = chosen.model;
    cpu.vendor = chosen.vendor;
    cpu.features = chosen.features;
    cpu.properties = chosen.properties;
}

/// What is wrong with the file explains more than what the hypervisor made of it; the pump reads on to find out.
Task<> require_whole(StatePump& pump, std::stop_token stop) {
    constexpr Duration search{15'000};
    try {
        co_await pump.finish(in(search), std::move(stop));
    } catch (const Error& error) {
        if (error.code() != Code::timeout && error.code() != Code::cancelled) throw;
    }
}

}  // namespace

// ---- a definition instead of the one that ran
// ------------------------------------------------------------------------------

Task<DomainConfig> replacement_definition(HypervisorDriver& driver, std::string xml, const DomainConfig& before) {
    auto config = understand(xml, false).config;
    const auto uuid = config.uuid.empty() ? before.uuid : normal_uuid(config.uuid).value_or(config.uuid);
    if (uuid != before.uuid || config.name != before.name || config.type != before.type)
        throw Error{Code::unsupported_configuration,
                    fmt::format("the definition given is of domain '{}' ({}, type {}); what is saved is '{}' ({}, type "
                                "{}), and these must stay",
                                printable(config.name), printable(uuid), printable(config.type), before.name,
                                before.uuid, before.type)};
    config.uuid = before.uuid;
    config.id.reset();
    xml::complete_generic(config);
    co_await driver.complete(config, &before);
    keep_chosen_cpu(config, before);
    if (const auto difference = xml::abi_difference(before, config))
        throw Error{Code::unsupported_configuration,
                    fmt::format("the definition given for domain '{}' changes what its guest can see: {}", before.name,
                                *difference)};
    co_return config;
}

// ---- saving
// ----------------------------------------------------------------------------------------------------------------

JobPtr Machine::save(std::string file, SaveOptions options, Caller caller) {
    require_file_name(file);
    return begin("save", "domain.save", caller, true, [file, options, caller](Machine& self, JobPtr job) {
        return self.do_save(std::move(job), file, options, caller);
    });
}

JobPtr Machine::managed_save(SaveOptions options, Caller caller) {
    return begin("managed-save", "domain.save", caller, true, [options, caller](Machine& self, JobPtr job) {
        return self.do_save(std::move(job), {}, options, caller);
    });
}

JobPtr Machine::remove_managed_save(Caller caller) {
    return begin("remove-managed-save", "domain.save", std::move(caller), false,
                 [](Machine& self, JobPtr job) { return self.do_remove_managed_save(std::move(job)); });
}

Task<> Machine::do_remove_managed_save(JobPtr job) {
    const auto hold = co_await lane_.enter(std::move(job), Lane::Subject::definition);
    require_listed();
    co_await drop_managed_save();
}

Task<> Machine::drop_managed_save() {
    co_await context_.store.remove_all(Kept::managed_save, view_.uuid);
    change([](DomainView& view) { view.has_managed_save = false; });
}

void Machine::require_no_managed_save(std::string_view verb) const {
    if (!context_.store.has_managed_save(view_.uuid)) return;
    throw Error{Code::has_managed_save,
                fmt::format("{} has a managed-save image, which would not fit its disks any more after '{}'; start the "
                            "domain from it, or remove it with RemoveManagedSave",
                            words(), verb)};
}

RunPtr Machine::require_savable(const std::string& verb, bool managed) const {
    require_listed();
    if (managed) require_stored(verb);
    require_state({State::running, State::paused}, verb);
    return require_guest(verb);
}

/// An empty `file` is the managed one.
Task<> Machine::do_save(JobPtr job, std::string file, SaveOptions options, Caller caller) {
    const bool managed = file.empty();
    const std::string verb = managed ? "managed-save" : "save";
    const auto hold = co_await lane_.enter(job, Lane::Subject::guest);
    require_one_state(options.running, options.paused);
    const auto compression = compression_of(options.compression);
    auto run = require_savable(verb, managed);
    auto config = options.xml.empty()
                      ? run->live
                      : co_await replacement_definition(*run->driver, options.xml, xml::without_run(run->live));
    std::optional<Identity> as;
    if (!managed) as = co_await rights_of_caller(context_.ports, caller.uid);
    run = require_savable(verb, managed);  // it may have changed meanwhile
    const bool runs = view_.state == State::running;
    SaveHeader header{.id = xml::random_uuid(),
                      .uuid = view_.uuid,
                      .name = view_.name,
                      .driver = run->driver->name(),
                      .running = options.running || (runs && !options.paused),
                      .created = context_.ports.clock.now(),
                      .xml = xml::format_kept(config)};
    const auto id = header.id;
    const auto path = managed ? context_.store.path(Kept::managed_save, view_.uuid) : file;
    auto target = co_await begin_saved_file(context_.ports, path, std::move(header), compression, options.bypass_cache,
                                            std::move(as));
    std::exception_ptr error;
    try {
        require_savable(verb, managed);
        if (run_ != run) throw Error{Code::invalid_state, fmt::format("{} was started anew meanwhile", words())};
        run->saving = Saving{id, path, target.file->temporary, std::nullopt, runs, managed};
        if (target.file->as) run->saving->uid = target.file->as->uid;
        save_status();
        co_await write_image(job, run, target);
    } catch (...) {
        error = std::current_exception();
    }
    if (error) {
        co_await give_up_save(run, target.file, runs);
        std::rethrow_exception(error);
    }
    run->saved = true;
    if (managed) change([](DomainView& view) { view.has_managed_save = true; });
    if (!run->over()) run->guest->kill(false);
    if (run_ == run) co_await see_guest_end(in(context_.patience.kill));
    co_await finish_run();
}

Task<> Machine::write_image(JobPtr job, RunPtr run, SaveTarget& target) {
    job->phase("saving");
    auto sink = open_sink(context_.ports, target);
    std::exception_ptr error;
    try {
        co_await run->guest->save(
            std::move(sink.target), [job](std::uint64_t done, std::uint64_t total) { job->progress(done, total); },
            job->stop());
    } catch (...) {
        error = std::current_exception();
    }
    // A full disk is seen by the pump; the guest's process only sees that nobody reads any more.
    if (error) sink.pump.rethrow_error();
    if (error) std::rethrow_exception(error);
    const auto moved = co_await sink.pump.finish(in(saving_end), job->stop());
    if (run->over()) throw Error{Code::hypervisor_failed, fmt::format("{} ended while it was saved", words())};
    if (job->stop().stop_requested()) throw Cancelled{fmt::format("saving {}", words())};
    job->phase("finishing");
    co_await commit_saved_file(context_.ports, target, moved, job->stop());
}

/// The guest first: it has waited long enough.
Task<> Machine::give_up_save(RunPtr run, NewFilePtr file, bool running) {
    if (run_ == run && run->saving && run->guest && !run->over()) {
        try {
            co_await run->guest->undo_save(running);
            if (running && run_ == run && !run->over() && view_.state != State::running)
                set_state(State::running, "save-canceled");
        } catch (const std::exception& e) {
            log(Priority::warning, fmt::format("After a save that did not end well it may stand still: {}", e.what()));
        }
    }
    try {
        co_await context_.ports.files.discard(std::move(file));
        run->saving.reset();
        if (run_ == run && !run->over()) save_status();
    } catch (const std::exception& e) {
        log(Priority::warning, fmt::format("What a save has left behind was not removed: {}", e.what()));
    }
}

// ---- restoring
// -------------------------------------------------------------------------------------------------------------

/// What a start shall restore from; nothing to boot instead.
Task<std::shared_ptr<Incoming>> Machine::managed_incoming(const StartOptions& options) {
    const auto path = context_.store.path(Kept::managed_save, view_.uuid);
    auto saved = co_await open_saved_file(context_.ports, path, std::nullopt, true);
    if (!saved->image.complete) {
        log(Priority::warning, fmt::format("Its managed-save image {} was never finished; it is discarded", path));
        co_await drop_managed_save();
        co_return nullptr;
    }
    if (saved->uuid != view_.uuid)
        throw Error{Code::unsupported, fmt::format("save image {} cannot be used: it is of the domain with UUID {}",
                                                   path, printable(saved->uuid))};
    auto incoming = std::make_shared<Incoming>();
    incoming->running = saved->image.header.running && !options.paused;
    incoming->managed = true;
    incoming->bypass_cache = options.bypass_cache;
    incoming->saved = std::move(saved);
    co_return incoming;
}

Understood understand_image(const SavedFile& saved) {
    auto known = understand(saved.image.header.xml, false);
    known.config.id.reset();
    if (normal_uuid(known.config.uuid) != normal_uuid(saved.uuid) || known.config.name != saved.name)
        throw Error{Code::unsupported,
                    fmt::format("save image {} cannot be used: its header speaks of '{}' ({}), the definition in it of "
                                "'{}' ({})",
                                saved.path, printable(saved.name), printable(saved.uuid), printable(known.config.name),
                                printable(known.config.uuid))};
    return known;
}

/// The driver's start with the state flowing in beside it.
Task<> Machine::start_incoming(JobPtr job, RunPtr run, StartRequest request, Incoming& incoming) {
    job->phase("restoring");
    const auto& saved = *incoming.saved;
    if (incoming.bypass_cache) require_direct_io(saved.file, saved.path);
    auto pipe = make_pipe();
    auto place = saved.place(incoming.bypass_cache);
    auto pump = StatePump::out_of_file(context_.ports.loop, std::move(incoming.saved->file), std::move(place),
                                       std::move(pipe.writing));
    request.incoming = std::move(pipe.reading);
    std::exception_ptr error;
    {
        const ProgressTicker ticker{context_.ports.loop, job, pump, saved.image.state_size};
        try {
            run->guest = co_await run->driver->start(std::move(request));
        } catch (...) {
            error = std::current_exception();
        }
    }
    if (error) co_await require_whole(pump, job->stop());
    if (error) std::rethrow_exception(error);
    co_await pump.finish(in(saving_end), job->stop());
    job->progress(saved.image.state_size, saved.image.state_size);
}

/// The guest is there with its CPUs halted. From the record on it is this guest that goes on, not the image.
Task<> Machine::let_go(RunPtr run, Incoming& incoming, std::stop_token stop) {
    run->restoring = Restoring{incoming.running, incoming.managed};
    save_status();
    if (incoming.managed) co_await drop_managed_save();
    try {
        if (incoming.running) co_await run->guest->resume(std::move(stop));
    } catch (...) {
        // There is no image to return to, so the guest must not be given up.
        if (!incoming.managed || run->over()) throw;
        incoming.not_resumed = std::current_exception();
        incoming.running = false;
    }
    run->restoring.reset();
}

// ---- after a restart of the daemon
// -----------------------------------------------------------------------------------------

/// Whether the image that was being written has got its name.
Task<bool> Machine::was_committed(Saving saving) {
    try {
        std::optional<Identity> as;
        if (saving.uid) as = co_await rights_of_caller(context_.ports, *saving.uid);
        const auto saved = co_await open_saved_file(context_.ports, saving.path, std::move(as));
        co_return saved->image.complete && saved->image.header.id == saving.id;
    } catch (const std::exception&) {
        co_return false;
    }
}

/// Ends a save that an earlier daemon began: forward when the image is whole and has its name, else back.
Task<> Machine::settle_save(RunPtr run) {
    const auto saving = *run->saving;
    if (co_await was_committed(saving)) {
        log(Priority::info, fmt::format("It was saved to {}; its process is ended", saving.path));
        run->saved = true;
        if (saving.managed) view_.has_managed_save = true;
        if (!run->over()) run->guest->kill(false);
        co_await see_guest_end(in(context_.patience.kill));
        co_await finish_run();
        co_return;
    }
    log(Priority::warning, "The daemon ended while it was saved; the save is undone");
    co_await remove_unfinished(saving);
    if (run->over()) co_return;
    try {
        co_await run->guest->undo_save(saving.running);
    } catch (const std::exception& e) {
        log(Priority::warning, fmt::format("It may stand still: {}", e.what()));
    }
    run->saving.reset();
    if (saving.running && !run->over() && view_.state != State::running) set_state(State::running, "save-canceled");
    if (!run->over()) save_status();
}

Task<> Machine::remove_unfinished(Saving saving) {
    try {
        std::optional<Identity> as;
        if (saving.uid) as = co_await rights_of_caller(context_.ports, *saving.uid);
        co_await context_.ports.files.remove_temporary(saving.temporary, std::move(as));
    } catch (const std::exception& e) {
        log(Priority::warning, fmt::format("{} of an interrupted save stays: {}", saving.temporary, e.what()));
    }
}

Task<> Machine::settle_restore(RunPtr run) {
    const auto restoring = *run->restoring;
    try {
        if (restoring.managed) co_await drop_managed_save();
        if (restoring.running && !run->over()) co_await run->guest->resume({});
    } catch (const std::exception& e) {
        log(Priority::warning, fmt::format("The end of its restore could not be made up for: {}", e.what()));
    }
    run->restoring.reset();
    if (!run->over()) set_state(restoring.running ? State::running : State::paused, "restored");
}

}  // namespace virtbus
