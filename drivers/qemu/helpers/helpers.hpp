// SPDX-License-Identifier: LGPL-2.1-or-later
// Which helpers a definition needs, whether they can be had here, and their start before QEMU's.
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
};

/// Why a definition's helpers cannot be had here, a sentence each.
std::vector<std::string> helper_problems(const DomainConfig& config, const HelperPrograms& programs, Files& files);

/// Starts all of them and hands QEMU's ends of their sockets to `opened`. Those that run are the core's, for its undo.
/// `order.log` is the stem of their logs' names.
Task<> start_helpers(std::shared_ptr<GuestCore> core, const HelperPrograms& programs, HelperOrder order,
                     OpenedResources& opened);

/// The same for devices that are plugged into a machine that runs, as far as that can be.
Task<> start_helpers_for(std::shared_ptr<GuestCore> core, const DomainConfig& config, const HelperPrograms& programs,
                         HelperOrder order, OpenedResources& opened);

/// The one that serves that device alone goes: the device has been unplugged, or could not be plugged.
Task<> end_helper_of(std::shared_ptr<GuestCore> core, std::string alias);

}  // namespace virtbus::qemu
