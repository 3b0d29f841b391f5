// SPDX-License-Identifier: LGPL-2.1-or-later
// Verbs that reach into the guest, and what is asked of it.
#include <fmt/format.h>

#include <algorithm>

#include "service/machine.hpp"
#include "service/parallel.hpp"
#include "service/stat_groups.hpp"

namespace virtbus {

// ---- verbs in the lane
// -------------------------------------------------------------------------------------------------

JobPtr Machine::begin_on_guest(GuestVerb verb, Caller caller) {
    auto operation = verb.operation, action = verb.action;
    return begin(
        std::move(operation), std::move(action), std::move(caller), false,
        [verb = std::move(verb)](Machine& self, JobPtr job) { return self.do_on_guest(std::move(job), verb); });
}

Task<> Machine::do_on_guest(JobPtr job, GuestVerb verb) {
    const auto hold = co_await lane_.enter(job, Lane::Subject::guest);
    require_listed();
    require_state(verb.allowed, verb.operation);
    const auto run = require_guest(verb.operation);
    std::stop_source stop;
    const std::stop_callback passed_on{job->stop(), [&stop] { stop.request_stop(); }};
    co_await limited<void>(context_.ports.loop, context_.scope, verb.act(*run->guest, stop.get_token()),
                           fmt::format("'{}' of {}", verb.operation, words()), in(context_.patience.verb), stop,
                           job->stop(), run->guest);
    if (run_ != run || run->over())
        throw Error{Code::invalid_state, fmt::format("{} ended during '{}'", words(), verb.operation)};
    if (verb.then && std::find(verb.allowed.begin(), verb.allowed.end(), view_.state) != verb.allowed.end())
        set_state(*verb.then, "user");
}

JobPtr Machine::shutdown(ShutdownMode mode, Caller caller) {
    return begin_on_guest({.operation = "shutdown",
                           .action = "domain.stop",
                           .allowed = {State::running, State::paused, State::pmsuspended, State::shutdown},
                           .act = [mode](Guest& guest, std::stop_token stop) { return guest.shutdown(mode, stop); },
                           .then = {}},
                          std::move(caller));
}

JobPtr Machine::reboot(ShutdownMode mode, Caller caller) {
    return begin_on_guest({.operation = "reboot",
                           .action = "domain.stop",
                           .allowed = {State::running, State::paused},
                           .act = [mode](Guest& guest, std::stop_token stop) { return guest.reboot(mode, stop); },
                           .then = {}},
                          std::move(caller));
}

JobPtr Machine::reset(Caller caller) {
    return begin_on_guest({.operation = "reset",
                           .action = "domain.stop",
                           .allowed = {State::running, State::paused, State::pmsuspended},
                           .act = [](Guest& guest, std::stop_token stop) { return guest.reset(stop); },
                           .then = {}},
                          std::move(caller));
}

JobPtr Machine::suspend(Caller caller) {
    return begin_on_guest({.operation = "suspend",
                           .action = "domain.stop",
                           .allowed = {State::running},
                           .act = [](Guest& guest, std::stop_token stop) { return guest.suspend(stop); },
                           .then = State::paused},
                          std::move(caller));
}

JobPtr Machine::resume(Caller caller) {
    return begin_on_guest({.operation = "resume",
                           .action = "domain.start",
                           .allowed = {State::paused},
                           .act = [](Guest& guest, std::stop_token stop) { return guest.resume(stop); },
                           .then = State::running},
                          std::move(caller));
}

JobPtr Machine::inject_nmi(Caller caller) {
    return begin_on_guest({.operation = "inject-nmi",
                           .action = "domain.stop",
                           .allowed = {State::running},
                           .act = [](Guest& guest, std::stop_token stop) { return guest.inject_nmi(stop); },
                           .then = {}},
                          std::move(caller));
}

// ---- front ends, beside the lane
// -----------------------------------------------------------------------------------------

namespace {

/// The guest's coroutine refers to it, so it must outlive it.
template <class T, class Ask>
Task<T> ask_guest(const Context& context, std::shared_ptr<Guest> guest, std::string what, Ask ask) {
    std::stop_source stop;
    auto answer = ask(*guest, stop.get_token());
    co_return co_await limited<T>(context.ports.loop, context.scope, std::move(answer), std::move(what),
                                  in(context.patience.verb), stop, {}, guest);
}

}  // namespace

Task<> Machine::send_key(std::vector<std::string> keys) {
    const auto run = require_guest("send-key");
    std::stop_source stop;
    co_await limited<void>(context_.ports.loop, context_.scope, run->guest->send_key(std::move(keys), stop.get_token()),
                           fmt::format("sending keys to {}", words()), in(context_.patience.verb), stop, {},
                           run->guest);
}

Task<Screenshot> Machine::screenshot(std::uint32_t screen) {
    const auto run = require_guest("screenshot");
    co_return co_await ask_guest<Screenshot>(
        context_, run->guest, fmt::format("a screenshot of {}", words()),
        [screen](Guest& guest, std::stop_token stop) { return guest.screenshot(screen, stop); });
}

Task<Fd> Machine::open_console(std::string name, bool force) {
    const auto run = require_guest("open-console");
    co_return co_await ask_guest<Fd>(
        context_, run->guest, fmt::format("opening a console of {}", words()),
        [name, force](Guest& guest, std::stop_token stop) { return guest.open_console(name, force, stop); });
}

Task<Fd> Machine::open_display(std::string type) {
    const auto run = require_guest("open-display");
    co_return co_await ask_guest<Fd>(
        context_, run->guest, fmt::format("opening a display of {}", words()),
        [type](Guest& guest, std::stop_token stop) { return guest.open_display(type, stop); });
}

// ---- statistics
// ------------------------------------------------------------------------------------------------------------

namespace {

/// Runs to its end whoever waits: a late answer is the next caller's stale one.
Task<> sample(RunPtr run, Clock& clock, std::stop_token stop) {
    try {
        run->last_stats = co_await run->guest->stats(std::move(stop));
        run->last_sample = clock.now();
        run->sample_failed = false;
    } catch (const std::exception&) {
        run->sample_failed = true;  // shown as stale; why is the driver's to log
    }
    run->sampling = false;
    for (auto& waiting : std::exchange(run->waiting_for_sample, {})) waiting.set();
}

}  // namespace

Stats Machine::own_stats() const {
    Stats stats;
    stats["vcpu.current"] = view_.vcpus;
    stats["vcpu.maximum"] = view_.max_vcpus;
    stats["balloon.current"] = view_.memory;
    stats["balloon.maximum"] = view_.max_memory;
    return stats;
}

/// All who ask at once share one question; while one is overdue nobody waits for it again.
Task<bool> Machine::fresh_sample(RunPtr run) {
    if (run->sampling && run->sample_overdue) co_return false;
    Reply<> answered{context_.ports.loop};
    run->waiting_for_sample.push_back(answered.promise());
    if (!run->sampling) {
        run->sampling = true;
        run->sample_overdue = false;
        context_.scope.spawn(sample(run, context_.ports.clock, {}));
    }
    try {
        co_await answered.wait(fmt::format("the statistics of {}", words()), in(context_.patience.sample));
    } catch (const Error&) {
        run->sample_overdue = true;
        co_return false;
    }
    co_return !run->sample_failed;
}

Task<TimedStats> Machine::stats(std::vector<std::string> groups) {
    require_stat_groups(groups);
    const auto run = run_;
    TimedStats answer;
    if (run && run->guest && !run->over()) {
        answer.stale = !co_await fresh_sample(run);
        answer.values = run->last_stats;
        answer.timestamp = run->last_sample;
    }
    if (answer.timestamp == 0) answer.timestamp = context_.ports.clock.now();
    answer.values.insert_or_assign("state.state", std::string{word(view_.state)});
    answer.values.insert_or_assign("state.reason", view_.state_reason);
    answer.values.merge(own_stats());
    keep_stat_groups(answer.values, groups);
    co_return answer;
}

}  // namespace virtbus
