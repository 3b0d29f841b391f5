// SPDX-License-Identifier: LGPL-2.1-or-later
// Where the daemon keeps things: the service manager's word first, then the defaults of the mode.
#pragma once

#include "virtbus/ports.hpp"

namespace virtbus::host {

/// CONFIGURATION_DIRECTORY and its kin, else /etc/virtbus ... in system mode and the XDG folders in user mode.
Folders find_folders(bool system_mode);

/// The kernel's id of this boot.
std::string boot_id();

}  // namespace virtbus::host
