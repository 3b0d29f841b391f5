// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices that come and go while the machine runs, each verb a task that keeps the guest alive until it ends. What is
// sent comes from plan.hpp and prepare.hpp.
#pragma once

#include <memory>
#include <string>

#include "qemu/capabilities.hpp"
#include "qemu/command_line.hpp"
#include "qemu/guest.hpp"

namespace virtbus::qemu {

using CorePtr = std::shared_ptr<GuestCore>;
using Known = std::shared_ptr<const Capabilities>;

Task<> attach(CorePtr core, Known known, DeviceRequest request, std::stop_token stop);
Task<> detach(CorePtr core, std::string alias, std::stop_token stop);
Task<> update(CorePtr core, Known known, DeviceRequest request, std::stop_token stop);
Task<> set_memory(CorePtr core, std::uint64_t bytes, std::stop_token stop);
Task<> set_vcpus(CorePtr core, std::uint32_t count, std::stop_token stop);

/// Notes in the record what stands behind each device of the line.
void note_parts(GuestRecord& record, const CommandLine& line);

/// QEMU has let go of the device: what stood behind it goes too, then everybody is told. `path` names what has no
/// alias.
Task<> release(CorePtr core, std::string alias, std::string path);
/// After a time without a monitor: what has gone meanwhile is released, what was half plugged is taken away. `present`
/// is the answer of qom-list for /machine/peripheral.
Task<> reconcile(CorePtr core, nlohmann::json present);

}  // namespace virtbus::qemu
