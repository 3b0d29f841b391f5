// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/block/jobs.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "qemu/json.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

constexpr Duration sampling{500}, ending{60'000};

struct Sample {
    JobFacts facts;
    std::uint64_t done = 0, total = 0;
};

/// Nothing when QEMU does not answer in time: an internal snapshot keeps it from that.
Task<std::optional<Sample>> ask(std::shared_ptr<GuestCore> core, std::string id) {
    json jobs;
    try {
        jobs = co_await core->open_monitor().execute("query-jobs", core->verb_deadline());
    } catch (const Error& error) {
        if (error.code() != Code::timeout) throw;
        co_return std::nullopt;
    }
    Sample sample;
    for (const auto& job : jobs)
        if (text(job, "id") == id)
            sample = {{text(job, "status"), text(job, "error")},
                      number(job, "current-progress"),
                      number(job, "total-progress")};
    co_return sample;
}

Task<> next_word(std::shared_ptr<GuestCore> core, std::stop_token stop) {
    Reply<> word{core->ports.loop};
    core->on_job(word.promise());
    try {
        co_await word.wait("a job of " + core->who(), in(sampling), stop);
    } catch (const Error& error) {
        if (error.code() != Code::timeout) throw;
    }
}

bool is_over(std::string_view status) {
    return status == "concluded" || status == "null";
}

}  // namespace

Task<JobFacts> follow_job(std::shared_ptr<GuestCore> core, std::string id,
                          std::initializer_list<std::string_view> until, ProgressSink progress, std::stop_token stop) {
    const std::vector<std::string_view> wanted{until};  // the list itself does not live as long as the task
    while (true) {
        if (core->is_gone()) throw Error{Code::hypervisor_failed, fmt::format("QEMU of {} has ended", core->who())};
        const auto sample = co_await ask(core, id);
        if (sample) {
            if (sample->facts.status.empty())
                throw Error{Code::hypervisor_failed, fmt::format("QEMU of {} has lost its job '{}'", core->who(), id)};
            if (progress && sample->total > 1) progress(std::min(sample->done, sample->total), sample->total);
            const auto& status = sample->facts.status;
            if (is_over(status) || std::ranges::find(wanted, status) != wanted.end()) co_return sample->facts;
        }
        co_await next_word(core, stop);
    }
}

Task<> dismiss_job(std::shared_ptr<GuestCore> core, std::string id) {
    co_await core->open_monitor().execute("job-dismiss", json{{"id", id}}, core->verb_deadline());
}

Task<> end_job(std::shared_ptr<GuestCore> core, std::string id) {
    const auto deadline = in(ending);
    while (std::chrono::steady_clock::now() < deadline) {
        if (core->is_gone()) co_return;
        const auto sample = co_await ask(core, id);
        if (sample && sample->facts.status.empty()) co_return;
        if (sample && is_over(sample->facts.status)) {
            co_await dismiss_job(core, id);
            co_return;
        }
        // Not every state takes it, and none needs it twice.
        if (!sample || sample->facts.status != "aborting") core->open_monitor().send("job-cancel", json{{"id", id}});
        co_await next_word(core, {});
    }
    throw Error{Code::timeout, fmt::format("QEMU of {} does not end its job '{}'", core->who(), id)};
}

void require_success(const GuestCore& core, const JobFacts& facts, std::string_view doing) {
    if (facts.error.empty()) return;
    const auto why = excerpt(facts.error, 2000);
    const auto says = [&](const char* words) { return why.find(words) != std::string::npos; };
    const auto code = says("No space left")    ? Code::no_space
                      : says("already exists") ? Code::already_exists
                                               : Code::hypervisor_failed;
    throw Error{code, fmt::format("QEMU of {} could not {}: {}", core.who(), doing, why)};
}

Task<std::exception_ptr> outcome_of(Task<> work) {
    std::exception_ptr failure;
    try {
        co_await work;
    } catch (...) {
        failure = std::current_exception();
    }
    co_return failure;
}

}  // namespace virtbus::qemu
