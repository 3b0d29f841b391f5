// SPDX-License-Identifier: LGPL-2.1-or-later
// From a definition to a guest that runs, or to nothing left of the attempt.
#include <fmt/format.h>

#include "service/domain_view.hpp"
#include "service/machine.hpp"
#include "service/saved_file.hpp"
#include "service/volumes.hpp"

namespace virtbus {

namespace {

std::string reason_of_failure(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const Error& e) {
        return e.code() == Code::cancelled ? "destroyed" : "failed";
    } catch (...) {
        return "failed";
    }
}

/// What a run is compared with: places of memory that the run before was given are no difference from a definition that
/// leaves them open.
std::string started_text(DomainConfig config, const std::optional<Definition>& definition) {
    if (!definition || !definition->problem().empty()) return render(config, {});
    const auto stored = definition->config();
    auto& memories = config.devices.memories;
    for (std::size_t i = 0; i < std::min(memories.size(), stored.devices.memories.size()); ++i) {
        const auto& said = stored.devices.memories[i];
        auto* at = memories[i].info.address_as<DimmAddress>();
        const auto* open = said.info.address_as<DimmAddress>();
        if (at && open && at->slot == open->slot && !open->base) at->base.reset();
        if (!said.target.address_base) memories[i].target.address_base.reset();
    }
    return render(config, {});
}

}  // namespace

JobPtr Machine::begin(std::string operation, std::string action, Caller caller, bool publish_now,
                      std::function<Task<>(Machine&, JobPtr)> work) {
    JobSpec spec;
    spec.operation = std::move(operation);
    spec.domains = {view_.uuid};
    spec.action = std::move(action);
    spec.caller = std::move(caller);
    spec.publish_now = publish_now;
    return context_.jobs.run(std::move(spec), [self = shared_from_this(), work = std::move(work)](JobPtr job) {
        return work(*self, std::move(job));
    });
}

JobPtr Machine::start(StartOptions options, Caller caller) {
    return begin("start", "domain.start", caller, true, [options, caller](Machine& self, JobPtr job) {
        return self.do_start(std::move(job), options, caller);
    });
}

Task<> Machine::do_start(JobPtr job, StartOptions options, Caller caller) {
    const auto hold = co_await lane_.enter(job, Lane::Subject::guest);
    require_listed();
    co_await finish_run();
    require_startable();
    require_stored("start");
    IncomingPtr incoming;
    if (context_.store.has_managed_save(view_.uuid)) {
        if (options.force_boot)
            co_await drop_managed_save();
        else
            incoming = co_await managed_incoming(options);
    }
    auto known =
        incoming ? understand_image(*incoming->saved) : Understood{definition_->config(), definition_->unknown()};
    known.config.name = view_.name;  // it may have been renamed since it was saved
    co_await launch(job, std::move(known.config), std::move(known.unknown), options, caller, std::move(incoming));
}

ResourceBroker::Setting Machine::broker_setting() {
    const auto& folders = context_.store.folders();
    return {.files = context_.ports.files,
            .log = context_.ports.log,
            .links = context_.links,
            .logs_folder = folders.logs,
            .secrets_folder = folders.config + "/secrets",
            .recorded = [this] { save_status(); },
            .pci = context_.ports.pci,
            .holder = [this](const std::string& device) { return context_.directory.holder_of(device, *this); }};
}

RunPtr Machine::new_run(HypervisorDriver* driver, DomainConfig config, std::vector<std::string> unknown) {
    auto run = std::make_shared<Run>();
    run->driver = driver;
    run->live = std::move(config);
    run->unknown = std::move(unknown);
    return run;
}

Task<> Machine::launch(JobPtr job, DomainConfig config, std::vector<std::string> unknown, StartOptions options,
                       Caller caller, IncomingPtr incoming) {
    auto& driver = context_.drivers.get_by_type(config.type);
    const auto deadline = in(context_.patience.start);
    auto run = new_run(&driver, std::move(config), std::move(unknown));
    run->started_text = incoming ? started_text(run->live, definition_) : render(run->live, {});
    run->id = context_.directory.next_id();
    run->started_at = context_.ports.clock.now();
    run->resources = std::make_unique<ResourceBroker>(broker_setting(), deadline, job->stop());
    run_ = run;
    std::exception_ptr error;
    try {
        if (options.autodestroy) die_with(run, std::move(caller));
        set_state(State::starting, "starting-up");
        save_status();
        co_await record_store(variable_store(run->live.os));
        co_await bring_up(job, run, options, deadline, incoming);
    } catch (...) {
        error = std::current_exception();
    }
    if (!error && incoming && incoming->not_resumed) std::rethrow_exception(incoming->not_resumed);
    if (!error) co_return;
    co_await give_up_start(run, reason_of_failure(error));
    std::rethrow_exception(error);
}

/// Before the store is made: whom it was for must be known when the domain is forgotten.
Task<> Machine::record_store(std::string path) {
    auto& store = context_.store;
    if (!store.is_in_nvram_folder(path)) co_return;
    context_.directory.require_store_stays(path);
    if (store.exists(path) && store.has_nvram_record(path)) co_return;
    try {
        co_await store.record_nvram(path, view_.name);
    } catch (const Error& e) {
        log(Priority::warning, fmt::format("For whom {} is made could not be noted: {}", path, e.what()));
    }
    context_.directory.require_store_stays(path);
}

Task<> Machine::bring_up(JobPtr job, RunPtr run, StartOptions options, Deadline deadline, IncomingPtr incoming) {
    Volumes volumes{context_};
    co_await volumes.resolve(run->live, deadline, job->stop());
    StartRequest request{.config = run->live,
                         .id = run->id,
                         .paused = options.paused,
                         .reset_nvram = options.reset_nvram,
                         .resources = *run->resources,
                         .events = *this,
                         .deadline = deadline,
                         .stop = job->stop(),
                         .unfinished = [this, run = run.get()](std::string driver_state) {
                             run->unfinished = std::move(driver_state);
                             save_status();
                         }};
    const auto require_alive = [&] {
        if (run->over())
            throw Error{Code::hypervisor_failed,
                        fmt::format("{} ended while it started: {}", words(),
                                    run->end->last_words.empty() ? run->end->reason : run->end->last_words)};
        if (job->stop().stop_requested()) throw Cancelled{fmt::format("the start of {}", words())};
    };
    if (incoming)
        co_await start_incoming(job, run, std::move(request), *incoming);
    else
        run->guest = co_await run->driver->start(std::move(request));
    require_alive();
    run->live = run->guest->config();
    run->live_moved();
    if (incoming) co_await let_go(run, *incoming, job->stop());
    if (run->over()) require_alive();
    const auto before = view_;
    const bool paused = incoming ? !incoming->running : options.paused;
    show_run(view_);
    view_.responsive = true;
    view_.state = paused ? State::paused : State::running;
    view_.state_reason = incoming ? "restored" : paused ? "starting-up" : "booted";
    view_.state_changed = context_.ports.clock.now();
    try {
        save_status();
    } catch (const std::exception& e) {
        view_ = before;
        if (!incoming) throw;
        log(Priority::warning, e.what());  // a restored guest may be all there is of it
    }
    if (listed_ && view_ != before) context_.audience.domain_changed(*this, before);
}

/// The start has failed with the lane held: nothing of it stays, unless the process cannot be killed.
Task<> Machine::give_up_start(RunPtr run, std::string reason) {
    run->giving_up = true;
    if (run->guest && !run->over()) {
        run->guest->kill(false);
        bool gone = true;
        try {
            co_await wait_for_end(run, in(context_.patience.kill));
        } catch (const Error& e) {
            gone = false;
            run->giving_up = false;
            log(Priority::error, e.what());
        }
        if (!gone) {
            set_state(State::shutdown, "unkillable");
            co_return;
        }
    }
    co_await run->resources->undo_start();
    if (const auto path = variable_store(run->live.os);
        context_.store.is_in_nvram_folder(path) && !context_.store.exists(path)) {
        try {
            co_await context_.store.forget_nvram_record(path);
        } catch (const Error& e) {
            log(Priority::warning, e.what());
        }
    }
    run->caller_watch.reset();
    try {
        context_.store.remove_status(view_.uuid);
    } catch (const std::exception& e) {
        log(Priority::warning, e.what());
    }
    run_.reset();
    change([&](DomainView& view) {
        show_stored(view);
        view.state = State::shutoff;
        view.state_reason = reason;
        view.state_changed = context_.ports.clock.now();
    });
    if (!definition_) vanish();
}

void Machine::die_with(const RunPtr& run, Caller caller) {
    run->dies_with = caller;
    const auto gone = [weak = weak_from_this(), weak_run = std::weak_ptr{run}] {
        const auto self = weak.lock();
        const auto its = weak_run.lock();
        if (!self || !its || self->run_ != its || its->over()) return;
        self->log(Priority::info, "It is stopped because its creator has left");
        self->stop({}, {});
    };
    run->caller_watch = context_.callers.when_gone(caller, [&loop = context_.ports.loop, gone] { loop.post(gone); });
}

}  // namespace virtbus
