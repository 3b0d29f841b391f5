// SPDX-License-Identifier: LGPL-2.1-or-later
// How verbs that run as jobs answer: when the work is done, after ten seconds or at once with the job's path.
#pragma once

#include "dbus/server/wire.hpp"
#include "service/jobs.hpp"

namespace virtbus::dbus {

/// "/" when the job has ended well within the patience, else the job's path; its error when it has failed by then.
/// With `phase` the job's path also as soon as it is in that phase.
Task<ObjectPath> answer_with_job(Jobs& jobs, JobPtr job, bool no_wait, std::string phase = {});
/// Returns when the job has ended, throwing its error.
Task<> answer_when_done(Jobs& jobs, JobPtr job);

}  // namespace virtbus::dbus
