// SPDX-License-Identifier: LGPL-2.1-or-later
// Where a running guest's sockets lie, <runtime>/qemu/<id>-<uuid>/, and how that folder goes.
#pragma once

#include <cstdint>
#include <string>

#include "virtbus/ports.hpp"
#include "virtbus/task.hpp"

namespace virtbus::qemu {

/// The folder of all of them.
std::string guests_folder(const Ports& ports);
std::string guest_folder(const Ports& ports, std::uint32_t id, const std::string& uuid);
/// Where the monitor of the guest with that folder listens.
std::string monitor_path(const std::string& guest_folder);

Task<> remove_guest_folder(Ports& ports, std::string folder);

}  // namespace virtbus::qemu
