// SPDX-License-Identifier: LGPL-2.1-or-later
// What is left in QEMU and beside it of a device that has gone or could not come, and its removal.
#pragma once

#include <string>
#include <vector>

#include "qemu/hotplug/parts.hpp"
#include "qemu/hotplug/plug.hpp"

namespace virtbus::qemu {

/// As the record has them.
std::vector<std::string> texts(const std::vector<Part>& parts);

/// Takes parts away in reverse order; what cannot be is logged.
Task<> remove_parts(CorePtr core, std::vector<std::string> parts);
/// What a failed attach has put there goes again. A device the guest has seen goes when the guest lets it.
Task<> take_back(CorePtr core, std::vector<Part> there, std::vector<Part> sets);

/// Those that were made for the device to listen at.
std::vector<std::string> sockets_of(const Device& device);
/// QEMU cannot: it was given them as descriptors.
Task<> remove_sockets(CorePtr core, std::vector<std::string> paths);

/// What the machine's sandbox has to let it do for the device of that alias.
Task<> grant_for(CorePtr core, std::string alias, UnitGrant grant);

/// While the work goes on, and after it when the machine has the devices then, it keeps what these need beside it.
Task<> bring_in(CorePtr core, std::vector<Device> devices, Task<> work);
/// Helpers and nodes go that no device needs any more.
Task<> leave_nothing_idle(CorePtr core);

void log_warning(const GuestCore& core, const std::string& message);

}  // namespace virtbus::qemu
