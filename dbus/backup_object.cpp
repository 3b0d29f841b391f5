// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/backup_object.hpp"

#include "dbus/job_replies.hpp"
#include "dbus/subjects.hpp"

namespace virtbus::dbus {

Subject BackupObject::subject(const Call& call) {
    return subject_of_path(domains_, call);
}

/// A pull backup has done what it was asked for when others can fetch from it; its job goes on.
Task<ObjectPath> BackupObject::begin(Call& call, std::string xml, BackupBeginOptions options) {
    const DomainPtr domain = get_domain(domains_, call);
    BackupOptions how{std::move(options.checkpoint), options.reuse_external};
    const JobPtr job = domain->backups().begin(std::move(xml), std::move(how), call.caller());
    co_return co_await answer_with_job(jobs_, job, options.no_wait, "serving");
}

Task<> BackupObject::end(Call& call) {
    const DomainPtr domain = get_domain(domains_, call);
    co_await domain->backups().end(call.caller());
}

Task<std::string> BackupObject::get_xml(Call& call) {
    co_return get_domain(domains_, call)->backups().xml();
}

}  // namespace virtbus::dbus
