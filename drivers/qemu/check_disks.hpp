// SPDX-License-Identifier: LGPL-2.1-or-later
// What QEMU's disks cannot do of a definition, or only other than it says. Sources are image_levels.hpp's.
#pragma once

#include "qemu/capabilities.hpp"
#include "virtbus/model/domain.hpp"

namespace virtbus::qemu {

/// UnsupportedConfiguration with the disk's name, the word that does not fit and what does.
void check_disk(const Disk& disk, const DomainConfig& config, const Capabilities& known);

/// What serves a device in another process must see the guest's memory.
bool shares_memory(const DomainConfig& config);

}  // namespace virtbus::qemu
