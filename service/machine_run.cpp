// SPDX-License-Identifier: LGPL-2.1-or-later
// The life of a run: start, stop, the end, and taking it up after a restart of the daemon.
#include <fmt/format.h>

#include "service/machine.hpp"

namespace virtbus {

namespace {

std::string seconds(Duration wait) {
    return fmt::format("{} s", (wait.count() + 999) / 1000);
}

Task<> next_turn(Loop& loop) {
    Reply<> turn{loop};
    turn.promise().set();
    co_await turn.wait("the next turn", std::nullopt);
}

std::string reason_of_failure(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const Error& e) {
        return e.code() == Code::cancelled ? "destroyed" : "failed";
    } catch (...) {
        return "failed";
    }
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

// ---- start
// -----------------------------------------------------------------------------------------------------------

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
    if (context_.store.has_managed_save(view_.uuid)) {
        if (!options.force_boot)
            throw Error{Code::unsupported,
                        fmt::format("{} has a managed-save image, and restoring one is not possible yet; "
                                    "start it with 'force-boot' to discard the image and boot cold",
                                    words())};
        co_await context_.store.remove_all(Kept::managed_save, view_.uuid);
        change([](DomainView& view) { view.has_managed_save = false; });
    }
    const auto unknown = definition_->unknown();
    co_await launch(job, definition_->config(), unknown, options, caller);
}

ResourceBroker::Setting Machine::broker_setting() {
    return {context_.ports.files, context_.ports.log, context_.links, context_.store.folders().logs,
            [this] { save_status(); }};
}

RunPtr Machine::new_run(HypervisorDriver* driver, DomainConfig config, std::vector<std::string> unknown) {
    auto run = std::make_shared<Run>();
    run->driver = driver;
    run->live = std::move(config);
    run->unknown = std::move(unknown);
    return run;
}

Task<> Machine::launch(JobPtr job, DomainConfig config, std::vector<std::string> unknown, StartOptions options,
                       Caller caller) {
    auto& driver = context_.drivers.get_by_type(config.type);
    const auto deadline = in(context_.patience.start);
    auto run = new_run(&driver, std::move(config), std::move(unknown));
    run->started_text = render(run->live, {});
    run->id = context_.directory.next_id();
    run->started_at = context_.ports.clock.now();
    run->resources = std::make_unique<ResourceBroker>(broker_setting(), deadline, job->stop());
    run_ = run;
    std::exception_ptr error;
    try {
        if (options.autodestroy) die_with(run, std::move(caller));
        set_state(State::starting, "starting-up");
        save_status();
        co_await bring_up(job, run, options, deadline);
    } catch (...) {
        error = std::current_exception();
    }
    if (!error) co_return;
    co_await give_up_start(run, reason_of_failure(error));
    std::rethrow_exception(error);
}

Task<> Machine::bring_up(JobPtr job, RunPtr run, StartOptions options, Deadline deadline) {
    StartRequest request{.config = run->live,
                         .id = run->id,
                         .paused = options.paused,
                         .reset_nvram = options.reset_nvram,
                         .resources = *run->resources,
                         .events = *this,
                         .deadline = deadline,
                         .stop = job->stop()};
    run->guest = co_await run->driver->start(std::move(request));
    if (run->over())
        throw Error{Code::hypervisor_failed,
                    fmt::format("{} ended while it started: {}", words(),
                                run->end->last_words.empty() ? run->end->reason : run->end->last_words)};
    if (job->stop().stop_requested()) throw Cancelled{fmt::format("the start of {}", words())};
    run->live = run->guest->config();
    run->live_moved();
    const auto before = view_;
    show_run(view_);
    view_.responsive = true;
    view_.state = options.paused ? State::paused : State::running;
    view_.state_reason = options.paused ? "starting-up" : "booted";
    view_.state_changed = context_.ports.clock.now();
    try {
        save_status();
    } catch (...) {
        view_ = before;
        throw;
    }
    if (listed_) context_.audience.domain_changed(*this, before);
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

// ---- stop
// ------------------------------------------------------------------------------------------------------------

JobPtr Machine::stop(StopOptions options, Caller caller) {
    return begin("stop", "domain.stop", std::move(caller), true,
                 [options](Machine& self, JobPtr job) { return self.do_stop(std::move(job), options); });
}

Task<> Machine::do_stop(JobPtr job, StopOptions options) {
    require_listed();
    const bool way_cleared = lane_.clear_way();
    if (!way_cleared && (!run_ || run_->over()))
        require_state({State::running, State::paused, State::starting, State::shutdown, State::pmsuspended}, "stop");
    const auto wait = options.graceful ? context_.patience.graceful : context_.patience.kill;
    const auto deadline = in(wait);
    const auto killed = kill_guest(options.graceful);
    bool late = false;
    Lane::Hold hold;
    try {
        hold = co_await lane_.enter_next(job, deadline);
    } catch (const Error&) {
        late = true;
    }
    if (late) {
        if (run_ && !run_->over()) set_state(State::shutdown, "unkillable");
        throw Error{Code::timeout, fmt::format("{} could not be stopped within {}: what holds it does not give way",
                                               words(), seconds(wait))};
    }
    // A start that could not be held back any more has left another guest.
    if (run_ != killed) kill_guest(options.graceful);
    co_await see_guest_end(deadline);
    co_await finish_run();
}

RunPtr Machine::kill_guest(bool graceful) {
    if (!run_ || !run_->guest || run_->over()) return nullptr;
    run_->guest->kill(graceful);
    return run_;
}

Task<> Machine::see_guest_end(Deadline deadline) {
    const auto run = run_;
    if (!run || !run->guest || run->over()) co_return;
    bool ended = true;
    try {
        co_await wait_for_end(run, deadline);
    } catch (const Error&) {
        ended = false;
    }
    if (ended) co_return;
    set_state(State::shutdown, "unkillable");
    throw Error{Code::timeout,
                fmt::format("{}: process {} did not end in time though it was killed; it is probably stuck in "
                            "the kernel. It cannot be started again until that process is gone",
                            words(), run->guest->pid())};
}

Task<> Machine::wait_for_end(RunPtr run, Deadline deadline) {
    if (run->over()) co_return;
    Reply<> end{context_.ports.loop};
    run->waiting_for_end.push_back(end.promise());
    co_await end.wait(fmt::format("the end of {}", words()), deadline);
}

// ---- the end
// ---------------------------------------------------------------------------------------------------------

void Machine::take_end(GuestEnd end) {
    const auto run = run_;
    run->end = std::move(end);
    for (auto& waiting : std::exchange(run->waiting_for_end, {})) waiting.set();
    if (run->giving_up) return;
    if (run->end->reason == "failed" || run->end->state == State::crashed)
        log(Priority::warning, fmt::format("It ended by itself ({}): {}", run->end->reason, run->end->last_words));
    change([&](DomainView& view) {
        show_stored(view);
        view.state = is_active(run->end->state) ? State::shutoff : run->end->state;
        view.state_reason = run->end->reason;
        view.state_changed = context_.ports.clock.now();
    });
    JobSpec spec;
    spec.operation = "cleanup";
    spec.domains = {view_.uuid};
    spec.action = "domain.stop";
    spec.cancelable = false;
    spec.internal = true;
    context_.jobs.run(std::move(spec),
                      [self = shared_from_this()](JobPtr job) { return self->clean_up(std::move(job)); });
}

Task<> Machine::clean_up(JobPtr job) {
    const auto hold = co_await lane_.enter_next(std::move(job), std::nullopt);
    co_await next_turn(context_.ports.loop);  // the guest that told of its end must not be destroyed in its own call
    co_await finish_run();
}

/// What is left to do at the end of a run, with the lane held; does nothing when there is none that is over.
Task<> Machine::finish_run() {
    const auto run = run_;
    if (!run || !run->over()) co_return;
    run->caller_watch.reset();
    co_await run->resources->undo();
    try {
        co_await clear_leftovers(run);
        context_.store.remove_status(view_.uuid);
    } catch (const std::exception& e) {
        log(Priority::warning, fmt::format("Cleaning up after it did not work: {}", e.what()));
    }
    run_.reset();
    if (!definition_) vanish();
}

Task<> Machine::clear_leftovers(RunPtr run) {
    auto& store = context_.store;
    if (run->remove_nvram) {
        co_await store.remove_all(Kept::nvram, view_.uuid);
        if (run->live.os.nvram && !run->live.os.nvram->path.empty())
            co_await store.remove_file(run->live.os.nvram->path);
    }
    if (definition_) co_return;
    if (store.snapshots(view_.uuid) > 0) co_await store.remove_all(Kept::snapshots, view_.uuid);
    if (store.checkpoints(view_.uuid) > 0) co_await store.remove_all(Kept::checkpoints, view_.uuid);
    bool keep_tpm = run->keep_tpm;
    for (const auto& tpm : run->live.devices.tpms) keep_tpm = keep_tpm || tpm.backend.persistent_state.value_or(false);
    if (store.has_tpm(view_.uuid) && (run->remove_tpm || !keep_tpm)) co_await store.remove_all(Kept::tpm, view_.uuid);
}

// ---- taken up after a restart
// ------------------------------------------------------------------------------------------

Task<> Machine::adopt(LiveStatus status, DomainConfig config, std::vector<std::string> unknown) {
    const auto hold = co_await lane_.enter(nullptr, Lane::Subject::definition);
    const auto run = new_run(context_.drivers.find_by_name(status.driver), std::move(config), std::move(unknown));
    run->id = status.id;
    run->started_at = status.started_at;
    run->started_text = status.started_xml;
    run->live_changed = status.live_changed;
    run->remove_nvram = status.remove_nvram;
    run->remove_tpm = status.remove_tpm;
    run->keep_tpm = status.keep_tpm;
    run->resources = std::make_unique<ResourceBroker>(broker_setting(), status.links);
    run_ = run;
    show_run(view_);
    view_.state = status.state;
    view_.state_reason = status.reason;
    view_.state_changed = status.state_changed;
    view_.responsive = false;

    GuestEnd end{State::shutoff, "failed", {}};
    const auto dies_with = status.dies_with;
    auto guest = co_await find_guest(run, std::move(status), end);
    if (run->over()) end = *run->end;
    if (!guest || run->over()) {
        run->guest = std::move(guest);
        run->end.reset();
        log(Priority::info, fmt::format("It ended while no daemon watched ({})", end.reason));
        take_end(std::move(end));
        co_await next_turn(context_.ports.loop);
        co_await finish_run();
        co_return;
    }
    run->guest = std::move(guest);
    run->live = run->guest->config();
    run->live_moved();
    change([&](DomainView& view) {
        show_run(view);
        view.responsive = true;
        if (view.state == State::starting) {
            view.state = State::running;
            view.state_reason = "booted";
        }
    });
    if (dies_with) {
        die_with(run, *dies_with);
        // A peer's connection has ended with the daemon it was made to.
        if (!dies_with->on_bus) stop({}, {});
    }
}

Task<std::unique_ptr<Guest>> Machine::find_guest(const RunPtr& run, LiveStatus status, GuestEnd& end) {
    if (!is_active(status.state)) {
        end = {status.state, status.reason, {}};
        co_return nullptr;
    }
    if (status.driver_state.empty()) {
        log(Priority::warning, "The daemon ended in the middle of its start; the start is undone");
        co_return nullptr;
    }
    if (!run->driver) {
        log(Priority::error,
            fmt::format("No driver '{}' is there to take it up; its process is left alone", status.driver));
        co_return nullptr;
    }
    try {
        co_return co_await run->driver->adopt(run->live, std::move(status.driver_state), *this, end);
    } catch (const std::exception& e) {
        log(Priority::error, fmt::format("It could not be taken up: {}", e.what()));
        end.last_words = e.what();
    }
    co_return nullptr;
}

}  // namespace virtbus
