// SPDX-License-Identifier: LGPL-2.1-or-later
// <vcpus>, <iothreadids>, <cputune>, <blkiotune>, <throttlegroups>: shares and pins of the host's CPUs and disks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/disk.hpp"

namespace virtbus {

struct Vcpu {
    std::uint32_t id = 0;
    bool enabled = true;
    std::optional<bool> hotpluggable;
    std::optional<std::uint32_t> order;
    Unknown unknown;
    bool operator==(const Vcpu&) const = default;
};

struct IothreadPoll {
    std::optional<std::uint64_t> max, grow, shrink;
    Unknown unknown;
    bool operator==(const IothreadPoll&) const = default;
};

struct Iothread {
    std::uint32_t id = 0;
    std::optional<std::int32_t> thread_pool_min, thread_pool_max;
    std::optional<IothreadPoll> poll;
    Unknown unknown;
    bool operator==(const Iothread&) const = default;
};

struct DefaultIothread {
    std::optional<std::int32_t> thread_pool_min, thread_pool_max;
    Unknown unknown;
    bool operator==(const DefaultIothread&) const = default;
};

struct VcpuPin {
    std::uint32_t vcpu = 0;
    CpuSet cpuset;
    Unknown unknown;
    bool operator==(const VcpuPin&) const = default;
};

struct EmulatorPin {
    CpuSet cpuset;
    Unknown unknown;
    bool operator==(const EmulatorPin&) const = default;
};

struct IothreadPin {
    std::uint32_t iothread = 0;
    CpuSet cpuset;
    Unknown unknown;
    bool operator==(const IothreadPin&) const = default;
};

/// Scheduling class of the vCPUs or I/O threads of a set, or of the emulator.
struct SchedulerClass {
    std::optional<CpuSet> set;
    std::string scheduler;  ///< batch, idle, fifo, rr
    std::optional<std::int32_t> priority;
    Unknown unknown;
    bool operator==(const SchedulerClass&) const = default;
};

struct CacheAllocation {
    std::uint32_t id = 0, level = 3;
    std::string type;        ///< both, code, data
    std::uint64_t size = 0;  ///< bytes
    Unknown unknown;
    bool operator==(const CacheAllocation&) const = default;
};

struct ResourceMonitor {
    std::optional<std::uint32_t> level;
    CpuSet vcpus;
    Unknown unknown;
    bool operator==(const ResourceMonitor&) const = default;
};

struct CacheTune {
    CpuSet vcpus;
    std::string id;
    std::vector<CacheAllocation> caches;
    std::vector<ResourceMonitor> monitors;
    Unknown unknown;
    bool operator==(const CacheTune&) const = default;
};

struct MemoryBandwidthNode {
    std::uint32_t id = 0, bandwidth = 0;
    Unknown unknown;
    bool operator==(const MemoryBandwidthNode&) const = default;
};

struct MemoryBandwidthTune {
    CpuSet vcpus;
    std::vector<MemoryBandwidthNode> nodes;
    std::vector<ResourceMonitor> monitors;
    Unknown unknown;
    bool operator==(const MemoryBandwidthTune&) const = default;
};

/// Periods and quotas in microseconds; a quota of -1 is "no limit".
struct CpuTune {
    std::optional<std::uint64_t> shares;
    std::optional<std::uint64_t> period, global_period, emulator_period, iothread_period;
    std::optional<std::int64_t> quota, global_quota, emulator_quota, iothread_quota;
    std::vector<VcpuPin> vcpu_pins;
    std::optional<EmulatorPin> emulator_pin;
    std::vector<IothreadPin> iothread_pins;
    std::optional<SchedulerClass> emulator_scheduler;
    std::vector<SchedulerClass> vcpu_schedulers, iothread_schedulers;
    std::vector<CacheTune> cache_tunes;
    std::vector<MemoryBandwidthTune> memory_tunes;
    Unknown unknown;
    bool operator==(const CpuTune&) const = default;
};

struct BlkioDevice {
    std::string path;
    std::optional<std::uint32_t> weight;
    std::optional<std::uint64_t> read_iops_sec, write_iops_sec, read_bytes_sec, write_bytes_sec;
    Unknown unknown;
    bool operator==(const BlkioDevice&) const = default;
};

struct BlkioTune {
    std::optional<std::uint32_t> weight;
    std::vector<BlkioDevice> devices;
    Unknown unknown;
    bool operator==(const BlkioTune&) const = default;
};

/// <throttlegroup>: limits shared by several disks; limits.group_name is its name.
struct ThrottleGroup {
    DiskIoTune limits;
    Unknown unknown;
    bool operator==(const ThrottleGroup&) const = default;
};

}  // namespace virtbus
