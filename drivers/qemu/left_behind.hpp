// SPDX-License-Identifier: LGPL-2.1-or-later
// Processes that no daemon watches: of a start whose daemon died in the middle, or of a run whose status was lost. The
// first are ended, the second only found, for they may hold somebody's work.
#pragma once

#include <string>

#include "qemu/guest_record.hpp"
#include "virtbus/ports.hpp"
#include "virtbus/task.hpp"

namespace virtbus::qemu {

/// Ends what an unfinished start has left, if it is there, and removes its folder. `who` names the domain in messages.
Task<> end_unfinished(Ports& ports, std::string who, GuestRecord record);

/// InvalidState when a QEMU of an earlier run of that domain still answers on its monitor's socket.
void require_none_left(Ports& ports, const std::string& who, const std::string& uuid);

}  // namespace virtbus::qemu
