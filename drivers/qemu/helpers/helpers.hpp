// SPDX-License-Identifier: LGPL-2.1-or-later
// Which helpers a definition needs, whether they can be had here, their start before QEMU's or their device's, and
// their end.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "qemu/command_line.hpp"
#include "qemu/helpers/helper_unit.hpp"
#include "qemu/helpers/tpm.hpp"

namespace virtbus::qemu {

class GuestCore;

/// Where the programs are; tests have others.
struct HelperPrograms {
    TpmProgram swtpm;
    /// Of descriptors of vhost-user back ends, the weaker before the stronger. Only what these name is run.
    std::vector<std::string> vhost_user_folders{"/usr/share/qemu/vhost-user", "/etc/qemu/vhost-user"};
    std::string pr_helper = "/usr/bin/qemu-pr-helper";
    std::string passt = "/usr/bin/passt";
    HelperTimes times;
    std::string host_root;  ///< where devices of the host are looked for; "" = the host's own root
};

/// Why a definition's helpers cannot be had here, a sentence each.
std::vector<std::string> helper_problems(const DomainConfig& config, const HelperPrograms& programs, Files& files);

/// Starts all of them and hands QEMU's ends of their sockets to `opened`. Those that run are the core's, for its undo.
/// `order.log` is the stem of their logs' names.
Task<> start_helpers(std::shared_ptr<GuestCore> core, const HelperPrograms& programs, HelperOrder order,
                     OpenedResources& opened);

/// The same for the devices of that definition, which are plugged into a machine that runs.
Task<> start_helpers_for(std::shared_ptr<GuestCore> core, const DomainConfig& config, const HelperPrograms& programs,
                         HelperOrder order, OpenedResources& opened);

/// Those go that serve no device any more.
Task<> end_idle_helpers(std::shared_ptr<GuestCore> core);

/// One has ended by itself: it is started again where QEMU can find it again, or its end is told.
Task<> helper_ended(std::shared_ptr<GuestCore> core, std::shared_ptr<HelperUnit> helper);

}  // namespace virtbus::qemu
