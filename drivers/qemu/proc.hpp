// SPDX-License-Identifier: LGPL-2.1-or-later
// What /proc and the network devices count for a guest's process. These files never block.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace virtbus::qemu {

struct ProcStat {
    std::uint64_t start_time = 0;        ///< clock ticks since boot
    std::uint64_t user = 0, system = 0;  ///< nanoseconds
};
/// /proc/<pid>/stat or /proc/<pid>/task/<tid>/stat; nullopt when it is gone.
std::optional<ProcStat> read_proc_stat(const std::string& path);

struct DeviceCounters {
    std::array<std::uint64_t, 4> received{}, sent{};  ///< bytes, packets, errors, drops
};
/// /proc/net/dev by interface name.
std::map<std::string, DeviceCounters> read_device_counters();

/// Resident bytes of the process; 0 when it is gone.
std::uint64_t read_resident(std::uint32_t pid);

}  // namespace virtbus::qemu
