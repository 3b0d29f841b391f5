// SPDX-License-Identifier: LGPL-2.1-or-later
// QEMU's jobs: started by whoever wants one, followed and ended here. They neither finish nor go by themselves
// (auto-finalize and auto-dismiss off), so that none is missed.
#pragma once

#include <initializer_list>
#include <stop_token>
#include <string>
#include <string_view>

#include "qemu/guest.hpp"

namespace virtbus::qemu {

struct JobFacts {
    std::string status;  ///< created, running, ready, pending, concluded ...; "" when there is no such job
    std::string error;
};

/// Until the job has come to one of these or is over. HypervisorFailed when it has gone, Cancelled after a stop.
Task<JobFacts> follow_job(std::shared_ptr<GuestCore> core, std::string id,
                          std::initializer_list<std::string_view> until, ProgressSink progress, std::stop_token stop);
/// Cancels what still works and takes the job away. None is no error.
Task<> end_job(std::shared_ptr<GuestCore> core, std::string id);
/// One that is over.
Task<> dismiss_job(std::shared_ptr<GuestCore> core, std::string id);

/// Throws what a job that is over died of, if it did.
void require_success(const GuestCore& core, const JobFacts& facts, std::string_view doing);

/// How the work ended: null when it did well. For what must be undone whatever happened.
Task<std::exception_ptr> outcome_of(Task<> work);

}  // namespace virtbus::qemu
