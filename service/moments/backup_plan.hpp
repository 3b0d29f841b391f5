// SPDX-License-Identifier: LGPL-2.1-or-later
// What a wanted backup comes down to for a domain: which disks, from which checkpoint on, to which files, served under
// which names. Pure; doing it is backup.hpp's work.
#pragma once

#include <string>
#include <vector>

#include "service/moments/index.hpp"
#include "virtbus/disk_work.hpp"
#include "virtbus/model/domain.hpp"
#include "virtbus/model/moments.hpp"

namespace virtbus {

struct BackupSubject {
    std::string name;            ///< of the domain
    const DomainConfig& config;  ///< as it runs
    const MomentIndex& checkpoints;
    std::string suffix;  ///< of files that are not named: of the checkpoint made with it, or the time
    bool reuse_external = false;
    std::string socket;  ///< where a pull is served when nothing is said
    bool tcp = false;    ///< may it be served to the network
};

struct BackupPlan {
    bool pull = false;
    BackupConfig config;  ///< with all that was left open
    std::vector<BackupPart> parts;
};

/// InvalidXML, UnsupportedConfiguration, NoSuchCheckpoint, CheckpointInconsistent.
BackupPlan plan_backup(const BackupConfig& wanted, const BackupSubject& subject);

}  // namespace virtbus
