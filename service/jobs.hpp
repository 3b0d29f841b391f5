// SPDX-License-Identifier: LGPL-2.1-or-later
// Jobs: every verb that changes something runs as one. A job knows who asked, how far it is, and how to stop it;
// the list publishes jobs, keeps finished ones for a while, and lets callers wait for the end.
// What the work does is left to whoever runs the job; queueing per domain is lane.hpp's work.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "service/views.hpp"
#include "virtbus/caller.hpp"
#include "virtbus/loop.hpp"
#include "virtbus/ports.hpp"
#include "virtbus/reply.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

class Audience;
class Jobs;

class Job {
public:
    const JobView& view() const { return view_; }
    std::uint64_t id() const { return view_.id; }
    /// The polkit action that Cancel asks for: that of the verb that started it.
    const std::string& action() const { return action_; }
    std::stop_token stop() const { return stop_.get_token(); }
    bool finished() const { return view_.state != JobState::running; }
    bool published() const { return published_; }

    void phase(std::string phase);
    void progress(std::uint64_t done, std::uint64_t total);
    /// InvalidState when it has ended or cannot be cancelled.
    void cancel();

private:
    friend Jobs;
    Job(Jobs& owner, JobView view, std::string action)
        : owner_{owner}, view_{std::move(view)}, told_{view_}, action_{std::move(action)} {}
    Jobs& owner_;
    JobView view_, told_;
    std::string action_;
    std::stop_source stop_;
    std::exception_ptr error_;
    bool published_ = false;
    std::vector<Reply<>::Promise> waiting_;
    std::vector<std::pair<std::string, Reply<>::Promise>> reaching_;  ///< a phase
    Registration
        timer_;  ///< until it is published, then the pause between two change signals, then its stay as finished
};
using JobPtr = std::shared_ptr<Job>;

struct JobSpec {
    std::string operation;              ///< "start", "define", ...: the word of the verb
    std::vector<std::string> domains;   ///< uuids
    std::vector<std::string> networks;  ///< uuids
    std::string action;                 ///< "domain.start": for Cancel
    Caller caller;
    bool publish_now = false;  ///< a verb that returns a job; others are published after 500 ms
    bool cancelable = true;
    bool internal = false;  ///< the daemon's own work, which no limit may keep from being done
};

class Jobs {
public:
    Jobs(Loop& loop, Clock& clock, Log& log, Audience& audience);
    ~Jobs();

    /// Starts the work at once. It runs to its end whatever becomes of the caller.
    JobPtr run(JobSpec spec, std::function<Task<>(JobPtr)> work);
    /// Returns when the job has ended, throwing its error; with `patience` returns false when it has not by then, with
    /// `phase` as soon as it is in that one.
    Task<bool> wait(JobPtr job, std::optional<Duration> patience, std::string phase = {});

    JobPtr find(std::uint64_t id) const;
    /// The published ones, oldest first.
    std::vector<JobPtr> list() const;
    bool busy() const;  ///< some job runs
    /// Returns when no job runs any more. What still runs after `patience` is cancelled, and left to its undo for as
    /// long again; then there is a line in the log.
    Task<> drain(Duration patience);
    /// Is told when a job becomes visible and when one ends, after the audience: a domain lists its jobs.
    void on_change(std::function<void(Job&)> listener) { listener_ = std::move(listener); }
    /// Ends all work where it waits; for process exit.
    void abandon();

private:
    friend Job;
    Task<> drive(JobPtr job, std::function<Task<>(JobPtr)> work);
    void publish(const JobPtr& job);
    void tell(Job& job);
    void finish(const JobPtr& job);
    Task<bool> quiet(Deadline deadline);
    void log_failure(const Job& job);
    void forget(std::uint64_t id);
    void forget_surplus();

    Loop& loop_;
    Clock& clock_;
    Log& log_;
    Audience& audience_;
    std::function<void(Job&)> listener_;
    std::map<std::uint64_t, JobPtr> jobs_;
    std::uint64_t last_id_ = 0;
    std::size_t running_ = 0;
    std::vector<Reply<>::Promise> draining_;
    std::optional<Scope> scope_{std::in_place};
};

}  // namespace virtbus
