// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/job_object.hpp"

#include <fmt/format.h>

#include <tuple>

#include "dbus/job_replies.hpp"
#include "dbus/paths.hpp"
#include "dbus/server/answer.hpp"
#include "dbus/subjects.hpp"
#include "virtbus/error.hpp"

namespace virtbus::dbus {

std::vector<ObjectPath> job_objects(const JobView& view) {
    std::vector<ObjectPath> paths;
    for (const auto& uuid : view.domains) paths.push_back({domain_path(uuid)});
    for (const auto& uuid : view.networks) paths.push_back({network_path(uuid)});
    return paths;
}

std::string job_error_name(const JobView& view) {
    return error_name(view.error_word);
}

JobPtr JobObject::find_job(const Keys& keys) const {
    const auto id = element_to_number(keys[0]);
    JobPtr job = id ? jobs_.find(*id) : nullptr;
    return job && job->published() ? job : nullptr;
}

JobPtr JobObject::get(const Call& call) const {
    if (auto job = find_job(call.keys())) return job;
    throw Error{Code::unknown_object,
                fmt::format("there is no job {}; finished ones are kept for a minute", call.path())};
}

const void* JobObject::find(const Keys& keys) const {
    const JobPtr job = find_job(keys);
    return job ? &job->view() : nullptr;
}

void JobObject::list(const Keys&, const std::function<void(std::string_view, const void*)>& each) const {
    for (const auto& job : jobs_.list()) each(std::to_string(job->id()), &job->view());
}

/// A job is no secret (its properties can be read), so one that is gone is said to be gone without a question.
Subject JobObject::subject(const Call& call) {
    const JobPtr job = find_job(call.keys());
    if (!job) return {{{"verb", std::string{call.method()}}}, false};
    const auto& [domains, networks] = std::tie(job->view().domains, job->view().networks);
    if (const auto domain = domains.empty() ? nullptr : domains_.find(domains.front()))
        return subject_of(call, *domain);
    if (const auto network = networks.empty() ? nullptr : networks_.find(networks.front()))
        return subject_of(call, *network);
    return {{{"verb", std::string{call.method()}}}};
}

std::string JobObject::action_of_object(const Call& call) {
    return get(call)->action();
}

Task<> JobObject::cancel(Call& call) {
    get(call)->cancel();
    co_return;
}

Task<ObjectPath> answer_with_job(Jobs& jobs, JobPtr job, bool no_wait, std::string phase) {
    constexpr Duration patience = std::chrono::seconds{10};
    const bool done = job->finished() || !no_wait;
    if (done && co_await jobs.wait(job, patience, std::move(phase))) co_return no_object;
    co_return ObjectPath{job_path(job->id())};
}

Task<> answer_when_done(Jobs& jobs, JobPtr job) {
    (void)co_await jobs.wait(std::move(job), std::nullopt);
}

}  // namespace virtbus::dbus
