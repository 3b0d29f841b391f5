// SPDX-License-Identifier: LGPL-2.1-or-later
// What this host's own SMBIOS tables say of it, for guests with <smbios mode='host'/>. Blocks.
#pragma once

#include <optional>
#include <string>

#include "virtbus/model/sysinfo.hpp"

namespace virtbus::qemu {

/// Of BIOS, system, board and chassis, as the kernel shows them; without the host's UUID, as a guest has its own.
/// nullopt where the host has no such tables. `root` is "" or, for tests, a folder that stands for the host's root.
std::optional<Sysinfo> read_host_smbios(const std::string& root);

}  // namespace virtbus::qemu
