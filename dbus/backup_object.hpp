// SPDX-License-Identifier: LGPL-2.1-or-later
// Backups of a domain on the bus: translates between org.virtbus1.Domain.Backup, an interface of the domain's object,
// and service/checkpoints, decides nothing.
#pragma once

#include "dbus/backup_interface.hpp"
#include "service/domains.hpp"
#include "service/jobs.hpp"

namespace virtbus::dbus {

class BackupObject final : public BackupMethods {
public:
    BackupObject(const Domains& domains, Jobs& jobs) : domains_{domains}, jobs_{jobs} {}

    Subject subject(const Call& call) override;
    Task<ObjectPath> begin(Call& call, std::string xml, BackupBeginOptions options) override;
    Task<> end(Call& call) override;
    Task<std::string> get_xml(Call& call) override;

private:
    const Domains& domains_;
    Jobs& jobs_;
};

}  // namespace virtbus::dbus
