// SPDX-License-Identifier: LGPL-2.1-or-later
// Brings a QEMU up: its folder and monitor socket, its command line, its process, and the one batch of questions and
// settings that ends with the CPUs running. Also takes up one that runs already.
#pragma once

#include <memory>

#include "qemu/capabilities.hpp"
#include "qemu/guest.hpp"
#include "qemu/helpers/helpers.hpp"

namespace virtbus::qemu {

/// On failure nothing is left behind; a QEMU that ended by itself has its last words in the error.
Task<std::shared_ptr<GuestCore>> start_guest(Ports& ports, Scope& scope, const GuestTimes& times,
                                             std::shared_ptr<const Capabilities> capabilities,
                                             std::shared_ptr<const HelperPrograms> programs, StartRequest request);

/// nullptr when it is gone: then `end` says how.
Task<std::shared_ptr<GuestCore>> adopt_guest(Ports& ports, Scope& scope, const GuestTimes& times,
                                             std::shared_ptr<const HelperPrograms> programs, DomainConfig config,
                                             GuestRecord record, GuestEvents& events, GuestEnd& end);

/// The one place where the guest's process may make files; the monitor's socket is out of its reach.
std::string guest_sockets(const GuestRecord& record);

/// What the process may have to lock; 0 = nothing.
std::uint64_t locked_memory(const DomainConfig& config);

/// Helpers' logs are beside the guest's: "<stem>-swtpm.log".
HelperOrder helper_order(const GuestCore& core, Resources* resources, Deadline deadline, std::stop_token stop);

/// A listening socket that only we may connect to.
Fd listen_at(const std::string& path);

}  // namespace virtbus::qemu
