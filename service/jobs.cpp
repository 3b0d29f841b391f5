// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/jobs.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "service/audience.hpp"

namespace virtbus {

namespace {

constexpr Duration publish_after{500}, between_changes{500}, stay{60'000};
constexpr std::size_t most_finished = 64, most_running = 4096;

struct Outcome {
    JobState state;
    std::string word, message;
};

Outcome outcome_of(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const Error& e) {
        return {e.code() == Code::cancelled ? JobState::cancelled : JobState::failed, std::string{word(e.code())},
                e.what()};
    } catch (const std::exception& e) {
        return {JobState::failed, std::string{word(Code::internal)}, e.what()};
    } catch (...) {
        return {JobState::failed, std::string{word(Code::internal)}, "an unknown fault"};
    }
}

/// A caller's mistake is his to read; a fault of the host is the administrator's too.
bool is_fault_of_host(const std::string& error_word) {
    static constexpr std::array faults{Code::timeout,      Code::no_space, Code::hypervisor_failed,
                                       Code::agent_failed, Code::internal, Code::limits_exceeded};
    return std::any_of(faults.begin(), faults.end(), [&](Code code) { return word(code) == error_word; });
}

}  // namespace

void Job::phase(std::string phase) {
    view_.phase = std::move(phase);
    for (const auto& [awaited, promise] : reaching_)
        if (awaited == view_.phase) promise.set();
    owner_.tell(*this);
}

void Job::progress(std::uint64_t done, std::uint64_t total) {
    view_.bytes_done = std::min(done, total);
    view_.bytes_total = total;
    view_.progress_valid = total > 0;
    view_.progress = total > 0 ? static_cast<double>(view_.bytes_done) / static_cast<double>(total) : 0;
    owner_.tell(*this);
}

void Job::cancel() {
    if (finished())
        throw Error{Code::invalid_state, fmt::format("job {} ('{}') has ended; only a running job can be cancelled",
                                                     view_.id, view_.operation)};
    if (!view_.cancelable)
        throw Error{Code::invalid_state,
                    fmt::format("job {} ('{}') cannot be cancelled; wait for its end", view_.id, view_.operation)};
    stop_.request_stop();
}

Jobs::Jobs(Loop& loop, Clock& clock, Log& log, Audience& audience)
    : loop_{loop}, clock_{clock}, log_{log}, audience_{audience} {}

/// Jobs may be held by others a while longer; what they have to tell is told by nobody then.
Jobs::~Jobs() {
    for (const auto& [id, job] : jobs_) job->timer_.reset();
}

void Jobs::abandon() {
    scope_.reset();
    scope_.emplace();
}

JobPtr Jobs::run(JobSpec spec, std::function<Task<>(JobPtr)> work) {
    if (running_ >= most_running && !spec.internal)
        throw Error{Code::limits_exceeded, fmt::format("{} jobs run already; wait for some to end", running_)};
    JobView view;
    view.id = ++last_id_;
    view.operation = std::move(spec.operation);
    view.domains = std::move(spec.domains);
    view.networks = std::move(spec.networks);
    view.started_at = clock_.now();
    view.started_by_uid = spec.caller.uid;
    view.cancelable = spec.cancelable;
    const JobPtr job{new Job{*this, std::move(view), std::move(spec.action)}};
    jobs_.emplace(job->id(), job);
    ++running_;
    if (spec.publish_now)
        publish(job);
    else
        job->timer_ = loop_.after(publish_after, [this, weak = std::weak_ptr{job}] {
            if (const auto late = weak.lock()) publish(late);
        });
    scope_->spawn(drive(job, std::move(work)));
    return job;
}

Task<> Jobs::drive(JobPtr job, std::function<Task<>(JobPtr)> work) {
    try {
        co_await work(job);
        job->view_.state = JobState::succeeded;
    } catch (...) {
        job->error_ = std::current_exception();
        auto outcome = outcome_of(job->error_);
        job->view_.state = outcome.state;
        job->view_.error_word = std::move(outcome.word);
        job->view_.error_message = std::move(outcome.message);
        log_failure(*job);
    }
    finish(job);
}

Task<bool> Jobs::wait(JobPtr job, std::optional<Duration> patience, std::string phase) {
    if (!job->finished()) {
        if (!phase.empty() && job->view_.phase == phase) co_return false;
        std::erase_if(job->waiting_, [](const auto& waiter) { return waiter.settled(); });
        std::erase_if(job->reaching_, [](const auto& waiter) { return waiter.second.settled(); });
        Reply<> end{loop_};
        job->waiting_.push_back(end.promise());
        if (!phase.empty()) job->reaching_.emplace_back(std::move(phase), end.promise());
        try {
            co_await end.wait("the job", patience ? std::optional{in(*patience)} : std::nullopt);
        } catch (const Error&) {
            // Nobody fails this promise: it is the deadline.
        }
        if (!job->finished()) co_return false;
    }
    if (job->error_) std::rethrow_exception(job->error_);
    co_return true;
}

JobPtr Jobs::find(std::uint64_t id) const {
    const auto found = jobs_.find(id);
    return found != jobs_.end() && found->second->published() ? found->second : nullptr;
}

std::vector<JobPtr> Jobs::list() const {
    std::vector<JobPtr> published;
    for (const auto& [id, job] : jobs_)
        if (job->published()) published.push_back(job);
    return published;
}

bool Jobs::busy() const {
    return running_ > 0;
}

Task<> Jobs::drain(Duration patience) {
    if (co_await quiet(in(patience))) co_return;
    for (const auto& [id, job] : jobs_)
        if (!job->finished()) job->stop_.request_stop();
    const bool ended = co_await quiet(in(patience));
    if (!ended) log_.warning(fmt::format("{} jobs do not end; what they began is undone at the next start", running_));
}

Task<bool> Jobs::quiet(Deadline deadline) {
    try {
        while (busy()) {
            Reply<> end{loop_};
            draining_.push_back(end.promise());
            co_await end.wait("the end of all jobs", deadline);
        }
    } catch (const Error&) {
        co_return !busy();
    }
    co_return true;
}

void Jobs::publish(const JobPtr& job) {
    job->timer_.reset();
    job->published_ = true;
    job->told_ = job->view_;
    audience_.job_added(*job);
    if (listener_) listener_(*job);
}

/// The timer of a published job is the pause after a change signal: what changes meanwhile waits for its end.
void Jobs::tell(Job& job) {
    if (!job.published_ || job.timer_ || job.finished() || job.view_ == job.told_) return;
    const auto before = std::exchange(job.told_, job.view_);
    audience_.job_changed(job, before);
    job.timer_ = loop_.after(between_changes, [this, weak = std::weak_ptr{jobs_.at(job.id())}] {
        if (const auto quiet = weak.lock()) {
            quiet->timer_.reset();
            tell(*quiet);
        }
    });
}

void Jobs::finish(const JobPtr& job) {
    job->timer_.reset();
    --running_;
    if (listener_ && job->published_) listener_(*job);
    if (job->published_) {
        if (job->view_ != job->told_) audience_.job_changed(*job, std::exchange(job->told_, job->view_));
        audience_.job_completed(*job);
        job->timer_ = loop_.after(stay, [this, id = job->id()] { forget(id); });
        forget_surplus();
    } else {
        jobs_.erase(job->id());
    }
    for (auto& waiter : std::exchange(job->waiting_, {})) waiter.set();
    if (!busy())
        for (auto& waiter : std::exchange(draining_, {})) waiter.set();
}

void Jobs::log_failure(const Job& job) {
    Log::Fields fields{{"JOB", std::to_string(job.id())}};
    if (!job.view().domains.empty()) fields.emplace_back("DOMAIN_UUID", job.view().domains.front());
    if (!job.view().networks.empty()) fields.emplace_back("NETWORK_UUID", job.view().networks.front());
    const auto priority = is_fault_of_host(job.view().error_word) ? Priority::warning : Priority::info;
    log_.write(priority, fmt::format("'{}' failed: {}", job.view().operation, job.view().error_message), fields);
}

void Jobs::forget(std::uint64_t id) {
    const auto found = jobs_.find(id);
    if (found == jobs_.end()) return;
    const auto job = found->second;
    jobs_.erase(found);
    audience_.job_removed(id);
}

void Jobs::forget_surplus() {
    auto finished = jobs_.size() - running_;
    for (auto next = jobs_.begin(); finished > most_finished && next != jobs_.end();) {
        const auto id = next->first;
        const bool old = next->second->finished();
        ++next;
        if (old) {
            forget(id);
            --finished;
        }
    }
}

}  // namespace virtbus
