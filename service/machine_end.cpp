// SPDX-License-Identifier: LGPL-2.1-or-later
// Stop, and whatever else ends a run.
#include <fmt/format.h>

#include "service/domain_view.hpp"
#include "service/machine.hpp"
#include "service/moments/snapshots.hpp"

namespace virtbus {

namespace {

std::string seconds(Duration wait) {
    return fmt::format("{} s", (wait.count() + 999) / 1000);
}

}  // namespace

JobPtr Machine::stop(StopOptions options, Caller caller) {
    return begin("stop", "domain.stop", std::move(caller), true,
                 [options](Machine& self, JobPtr job) { return self.do_stop(std::move(job), options); });
}

Task<> Machine::do_stop(JobPtr job, StopOptions options) {
    require_listed();
    const bool way_cleared = lane_.clear_way();
    if (!way_cleared && (!run_ || run_->over()))
        require_state(
            {State::running, State::paused, State::starting, State::shutdown, State::crashed, State::pmsuspended},
            "stop");
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

void Machine::take_end(GuestEnd end) {
    const auto run = run_;
    run->end = std::move(end);
    if (run->saved) run->end = GuestEnd{"saved", {}};
    for (auto& waiting : std::exchange(run->waiting_for_end, {})) waiting.set();
    if (run->giving_up) return;
    if (run->end->reason == "failed" || run->end->reason == "crashed")
        log(Priority::warning, fmt::format("It ended by itself ({}): {}", run->end->reason, run->end->last_words));
    change([&](DomainView& view) {
        show_stored(view);
        view.state = State::shutoff;
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
    co_await sleep(context_.ports.loop,
                   Duration{0});  // the guest that told of its end must not be destroyed in its own call
    co_await finish_run();
}

/// What is left to do at the end of a run, with the lane held; does nothing when there is none that is over.
Task<> Machine::finish_run() {
    const auto run = run_;
    if (!run || !run->over()) co_return;
    run->caller_watch.reset();
    co_await run->resources->undo();
    try {
        co_await snapshots_->settle_end(run);
        run->unsettled.clear();
    } catch (const std::exception& e) {
        run->unsettled = e.what();
        log(Priority::error, fmt::format("It ended after a merge of its images that could not be put on record: {}. It "
                                         "cannot be started before that",
                                         e.what()));
    }
    if (!run->unsettled.empty()) co_return;
    try {
        co_await clear_leftovers(run);
        context_.store.remove_status(view_.uuid);
    } catch (const std::exception& e) {
        log(Priority::warning, fmt::format("Cleaning up after it did not work: {}", e.what()));
    }
    run_.reset();
    if (!definition_ && !outlives_run_) vanish();
}

Task<> Machine::clear_leftovers(RunPtr run) {
    auto& store = context_.store;
    if (definition_ || outlives_run_) co_return;
    if (run->remove_nvram) {
        co_await store.remove_all(Kept::nvram, view_.uuid);
        if (const auto named = variable_store(run->live.os); !named.empty()) co_await store.remove_nvram(named);
    }
    co_await store.remove_all(Kept::snapshots, view_.uuid);
    co_await store.remove_all(Kept::checkpoints, view_.uuid);
    bool keep_tpm = run->keep_tpm || run->saved;  // what was saved wants it again
    for (const auto& tpm : run->live.devices.tpms) keep_tpm = keep_tpm || tpm.backend.persistent_state.value_or(false);
    if (store.has_tpm(view_.uuid) && (run->remove_tpm || !keep_tpm)) co_await store.remove_all(Kept::tpm, view_.uuid);
}

}  // namespace virtbus
