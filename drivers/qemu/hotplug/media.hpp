// SPDX-License-Identifier: LGPL-2.1-or-later
// The media of CD-ROM and floppy drives while the machine runs. Whether a change is one of the medium alone is its
// caller's to know.
#pragma once

#include <stop_token>

#include "qemu/hotplug/plug.hpp"

namespace virtbus::qemu {

/// The drive of that disk's alias gets the disk's source, or none. On failure it has the old medium again. DeviceInUse
/// when the guest keeps the tray locked and `force` is not given.
Task<> change_medium(CorePtr core, Known known, Disk disk, Resources& resources, bool force, std::stop_token stop);

}  // namespace virtbus::qemu
