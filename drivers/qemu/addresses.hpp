// SPDX-License-Identifier: LGPL-2.1-or-later
// Gives every device of a definition its address and adds the buses this takes; refuses two devices in one place.
// What the definition says already stays.
#pragma once

#include "qemu/chipset.hpp"

namespace virtbus::qemu {

/// <address type='drive'> of disks, from their target names. Needed before controllers are added.
void assign_drive_addresses(DomainConfig& config);

/// All the rest. Controllers other than PCI ones and hubs must be there already.
void assign_addresses(DomainConfig& config, const Chipset& chipset);

/// Takes the addresses of `previous` for devices that say none and are the same ones.
void follow_addresses(DomainConfig& config, const DomainConfig& previous);
/// Then the PCI controllers these need; all there were when the definition names none beside the root.
void follow_buses(DomainConfig& config, const DomainConfig& previous);

/// "vda" -> 0, "sdaa" -> 26; -1 when the name has no such form.
int index_of_target(std::string_view target);

}  // namespace virtbus::qemu
