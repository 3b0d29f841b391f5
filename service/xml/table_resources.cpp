// SPDX-License-Identifier: LGPL-2.1-or-later
// Tables of what the machine takes from its host: CPUs, memory, disk shares, threads.
#include "service/xml/tables.hpp"
#include "virtbus/model/memory.hpp"
#include "virtbus/model/tuning.hpp"

namespace virtbus::xml {

namespace {

// ---- memory

constexpr Row page_rows[]{
    attribute<&HugePage::size>("size").scaled().range(1, UINT64_MAX).required(),
    attribute<&HugePage::nodeset>("nodeset"),
};
constinit const Table page_table = table<HugePage>(page_rows);
constexpr Row hugepages_rows[]{element<&HugePages::pages>("page", page_table)};
constinit const Table hugepages_table = table<HugePages>(hugepages_rows);

constexpr Row allocation_rows[]{
    attribute<&MemoryBacking::allocation_mode>("mode").one_of("immediate|ondemand"),
    attribute<&MemoryBacking::allocation_threads>("threads").range(1, UINT32_MAX),
};
constexpr Row memory_backing_rows[]{
    element<&MemoryBacking::hugepages>("hugepages", hugepages_table).always(),
    flag<&MemoryBacking::nosharepages>("nosharepages"),
    flag<&MemoryBacking::locked>("locked"),
    leaf<&MemoryBacking::source_type>("source", "type").one_of("file|anonymous|memfd"),
    leaf<&MemoryBacking::access_mode>("access", "mode").one_of("shared|private"),
    group("allocation", allocation_rows),
    flag<&MemoryBacking::discard>("discard"),
};

constexpr Row memtune_rows[]{
    leaf<&MemoryTune::hard_limit>("hard_limit").scaled(),
    leaf<&MemoryTune::soft_limit>("soft_limit").scaled(),
    leaf<&MemoryTune::min_guarantee>("min_guarantee").scaled(),
    leaf<&MemoryTune::swap_hard_limit>("swap_hard_limit").scaled(),
};

constexpr const char* numa_modes = "strict|preferred|interleave|restrictive";
constexpr Row numa_memory_rows[]{
    attribute<&NumaMemory::mode>("mode").one_of(numa_modes),
    attribute<&NumaMemory::nodeset>("nodeset"),
    attribute<&NumaMemory::placement>("placement").one_of("static|auto"),
};
constinit const Table numa_memory_table = table<NumaMemory>(numa_memory_rows);
constexpr Row memnode_rows[]{
    attribute<&NumaMemnode::cellid>("cellid").required(),
    attribute<&NumaMemnode::mode>("mode").one_of(numa_modes),
    attribute<&NumaMemnode::nodeset>("nodeset").required(),
};
constinit const Table memnode_table = table<NumaMemnode>(memnode_rows);
constexpr Row numatune_rows[]{
    element<&NumaTune::memory>("memory", numa_memory_table),
    element<&NumaTune::memnodes>("memnode", memnode_table),
};

// ---- threads

constexpr Row vcpu_rows[]{
    attribute<&Vcpu::id>("id").required(),
    attribute<&Vcpu::enabled>("enabled").yes_no().required(),
    attribute<&Vcpu::hotpluggable>("hotpluggable").yes_no(),
    attribute<&Vcpu::order>("order").range(1, UINT32_MAX),
};
constexpr Row poll_rows[]{
    attribute<&IothreadPoll::max>("max"),
    attribute<&IothreadPoll::grow>("grow"),
    attribute<&IothreadPoll::shrink>("shrink"),
};
constinit const Table poll_table = table<IothreadPoll>(poll_rows);
constexpr Row iothread_rows[]{
    attribute<&Iothread::id>("id").range(1, UINT32_MAX).required(),
    attribute<&Iothread::thread_pool_min>("thread_pool_min").range(-1, INT32_MAX),
    attribute<&Iothread::thread_pool_max>("thread_pool_max").range(-1, INT32_MAX),
    element<&Iothread::poll>("poll", poll_table),
};
constexpr Row default_iothread_rows[]{
    attribute<&DefaultIothread::thread_pool_min>("thread_pool_min").range(-1, INT32_MAX),
    attribute<&DefaultIothread::thread_pool_max>("thread_pool_max").range(-1, INT32_MAX),
};
constexpr Row throttle_group_rows[]{inlined<&ThrottleGroup::limits>(disk_iotune_table)};
std::string check_throttle_group(const void* object) {
    return static_cast<const ThrottleGroup*>(object)->limits.group_name.empty() ? "element <group_name> is missing"
                                                                                : "";
}

// ---- cputune

constexpr std::int64_t least_quota = -1;
constexpr std::uint64_t most_quota = 17592186044415;

constexpr Row vcpupin_rows[]{
    attribute<&VcpuPin::vcpu>("vcpu").required(),
    attribute<&VcpuPin::cpuset>("cpuset").required(),
};
constinit const Table vcpupin_table = table<VcpuPin>(vcpupin_rows);
constexpr Row emulatorpin_rows[]{attribute<&EmulatorPin::cpuset>("cpuset").required()};
constinit const Table emulatorpin_table = table<EmulatorPin>(emulatorpin_rows);
constexpr Row iothreadpin_rows[]{
    attribute<&IothreadPin::iothread>("iothread").required(),
    attribute<&IothreadPin::cpuset>("cpuset").required(),
};
constinit const Table iothreadpin_table = table<IothreadPin>(iothreadpin_rows);

constexpr Row scheduler_row =
    attribute<&SchedulerClass::scheduler>("scheduler").one_of("batch|idle|fifo|rr").required();
constexpr Row priority_row = attribute<&SchedulerClass::priority>("priority").range(0, 99);
std::string check_scheduler(const void* object) {
    const auto& scheduler = *static_cast<const SchedulerClass*>(object);
    const bool realtime = scheduler.scheduler == "fifo" || scheduler.scheduler == "rr";
    return realtime && !scheduler.priority ? "fifo and rr need attribute 'priority'" : "";
}
constexpr Row vcpusched_rows[]{attribute<&SchedulerClass::set>("vcpus").required(), scheduler_row, priority_row};
constinit const Table vcpusched_table = table<SchedulerClass>(vcpusched_rows, check_scheduler);
constexpr Row iothreadsched_rows[]{attribute<&SchedulerClass::set>("iothreads").required(), scheduler_row,
                                   priority_row};
constinit const Table iothreadsched_table = table<SchedulerClass>(iothreadsched_rows, check_scheduler);
constexpr Row emulatorsched_rows[]{scheduler_row, priority_row};
constinit const Table emulatorsched_table = table<SchedulerClass>(emulatorsched_rows, check_scheduler);

constexpr Row cache_rows[]{
    attribute<&CacheAllocation::id>("id").required(),
    attribute<&CacheAllocation::level>("level").required(),
    attribute<&CacheAllocation::type>("type").one_of("both|code|data").required(),
    attribute<&CacheAllocation::size>("size").scaled(Unit::best, 1).required(),
};
constinit const Table cache_table = table<CacheAllocation>(cache_rows);
constexpr Row monitor_rows[]{
    attribute<&ResourceMonitor::level>("level"),
    attribute<&ResourceMonitor::vcpus>("vcpus").required(),
};
constinit const Table monitor_table = table<ResourceMonitor>(monitor_rows);
constexpr Row cachetune_rows[]{
    attribute<&CacheTune::vcpus>("vcpus").required(),
    attribute<&CacheTune::id>("id"),
    element<&CacheTune::caches>("cache", cache_table),
    element<&CacheTune::monitors>("monitor", monitor_table),
};
constinit const Table cachetune_table = table<CacheTune>(cachetune_rows);
constexpr Row node_rows[]{
    attribute<&MemoryBandwidthNode::id>("id").required(),
    attribute<&MemoryBandwidthNode::bandwidth>("bandwidth").required(),
};
constinit const Table node_table = table<MemoryBandwidthNode>(node_rows);
constexpr Row memorytune_rows[]{
    attribute<&MemoryBandwidthTune::vcpus>("vcpus").required(),
    element<&MemoryBandwidthTune::nodes>("node", node_table),
    element<&MemoryBandwidthTune::monitors>("monitor", monitor_table),
};
constinit const Table memorytune_table = table<MemoryBandwidthTune>(memorytune_rows);

constexpr Row cputune_rows[]{
    leaf<&CpuTune::shares>("shares"),
    leaf<&CpuTune::period>("period").range(1000, 1000000),
    leaf<&CpuTune::quota>("quota").range(least_quota, most_quota),
    leaf<&CpuTune::global_period>("global_period").range(1000, 1000000),
    leaf<&CpuTune::global_quota>("global_quota").range(least_quota, most_quota),
    leaf<&CpuTune::emulator_period>("emulator_period").range(1000, 1000000),
    leaf<&CpuTune::emulator_quota>("emulator_quota").range(least_quota, most_quota),
    leaf<&CpuTune::iothread_period>("iothread_period").range(1000, 1000000),
    leaf<&CpuTune::iothread_quota>("iothread_quota").range(least_quota, most_quota),
    element<&CpuTune::vcpu_pins>("vcpupin", vcpupin_table),
    element<&CpuTune::emulator_pin>("emulatorpin", emulatorpin_table),
    element<&CpuTune::iothread_pins>("iothreadpin", iothreadpin_table),
    element<&CpuTune::emulator_scheduler>("emulatorsched", emulatorsched_table),
    element<&CpuTune::vcpu_schedulers>("vcpusched", vcpusched_table),
    element<&CpuTune::iothread_schedulers>("iothreadsched", iothreadsched_table),
    element<&CpuTune::cache_tunes>("cachetune", cachetune_table),
    element<&CpuTune::memory_tunes>("memorytune", memorytune_table),
};

// ---- blkiotune

constexpr Row blkio_device_rows[]{
    leaf<&BlkioDevice::path>("path").required(),          leaf<&BlkioDevice::weight>("weight"),
    leaf<&BlkioDevice::read_iops_sec>("read_iops_sec"),   leaf<&BlkioDevice::write_iops_sec>("write_iops_sec"),
    leaf<&BlkioDevice::read_bytes_sec>("read_bytes_sec"), leaf<&BlkioDevice::write_bytes_sec>("write_bytes_sec"),
};
constinit const Table blkio_device_table = table<BlkioDevice>(blkio_device_rows);
constexpr Row blkiotune_rows[]{
    leaf<&BlkioTune::weight>("weight"),
    element<&BlkioTune::devices>("device", blkio_device_table),
};

}  // namespace

constinit const Table memory_backing_table = table<MemoryBacking>(memory_backing_rows);
constinit const Table memtune_table = table<MemoryTune>(memtune_rows);
constinit const Table numatune_table = table<NumaTune>(numatune_rows);
constinit const Table vcpu_table = table<Vcpu>(vcpu_rows);
constinit const Table iothread_table = table<Iothread>(iothread_rows);
constinit const Table default_iothread_table = table<DefaultIothread>(default_iothread_rows);
constinit const Table throttle_group_table = table<ThrottleGroup>(throttle_group_rows, check_throttle_group);
constinit const Table cputune_table = table<CpuTune>(cputune_rows);
constinit const Table blkiotune_table = table<BlkioTune>(blkiotune_rows);

}  // namespace virtbus::xml
