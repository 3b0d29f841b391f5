// SPDX-License-Identifier: LGPL-2.1-or-later
// DomainConfig: the model of libvirt's <domain>. Absent and default are told apart; sizes are bytes. How it is written
// is service/xml's business, what a missing piece becomes is the driver's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/clock.hpp"
#include "virtbus/model/cpu.hpp"
#include "virtbus/model/devices.hpp"
#include "virtbus/model/features.hpp"
#include "virtbus/model/launch_security.hpp"
#include "virtbus/model/memory.hpp"
#include "virtbus/model/os.hpp"
#include "virtbus/model/qemu_namespace.hpp"
#include "virtbus/model/seclabel.hpp"
#include "virtbus/model/sysinfo.hpp"
#include "virtbus/model/tuning.hpp"

namespace virtbus {

struct Genid {
    std::string uuid;  ///< "" = to be made
    Unknown unknown;
    bool operator==(const Genid&) const = default;
};

struct MaxMemory {
    std::uint64_t size = 0;  ///< bytes
    std::uint32_t slots = 0;
    Unknown unknown;
    bool operator==(const MaxMemory&) const = default;
};

struct PerfEvent {
    std::string name;
    bool enabled = false;
    Unknown unknown;
    bool operator==(const PerfEvent&) const = default;
};

/// <suspend-to-mem>, <suspend-to-disk>.
struct PowerManagement {
    std::optional<bool> suspend_to_mem, suspend_to_disk;
    Unknown unknown;
    bool operator==(const PowerManagement&) const = default;
};

struct Resource {
    std::string partition, fibrechannel_appid;
    Unknown unknown;
    bool operator==(const Resource&) const = default;
};

struct IdMap {
    std::vector<IdRange> uid, gid;
    Unknown unknown;
    bool operator==(const IdMap&) const = default;
};

struct DomainConfig {
    std::string type;                 ///< qemu, kvm, test, ...
    std::optional<std::uint32_t> id;  ///< live only
    std::string name;
    std::string uuid;  ///< lower case with dashes; "" = to be made
    std::optional<Genid> genid;
    std::string title, description;
    std::vector<std::string> metadata;  ///< the children of <metadata>, each verbatim with its namespaces

    std::optional<MaxMemory> max_memory;
    std::optional<std::uint64_t> memory;  ///< bytes; absent only before defaults are filled in
    std::optional<bool> memory_dump_core;
    std::optional<std::uint64_t> current_memory;  ///< bytes; absent: the same as memory
    std::optional<BlkioTune> blkiotune;
    std::optional<MemoryTune> memtune;
    std::optional<MemoryBacking> memory_backing;

    std::optional<std::uint32_t> vcpu;  ///< the maximum; absent: 1
    std::string vcpu_placement;         ///< static, auto
    std::optional<CpuSet> vcpu_cpuset;
    std::optional<std::uint32_t> vcpu_current;
    std::vector<Vcpu> vcpus;
    std::optional<std::uint32_t> iothreads;
    std::vector<Iothread> iothreadids;
    std::optional<DefaultIothread> default_iothread;
    std::vector<ThrottleGroup> throttle_groups;
    std::optional<CpuTune> cputune;
    std::optional<NumaTune> numatune;
    std::optional<Resource> resource;
    std::vector<Sysinfo> sysinfos;

    std::string bootloader, bootloader_args;
    Os os;
    std::optional<IdMap> idmap;
    std::optional<Features> features;
    std::optional<Cpu> cpu;
    std::optional<GuestClock> clock;
    std::string on_poweroff, on_reboot, on_crash, on_lockfailure;  ///< "" = destroy, restart, destroy
    std::optional<PowerManagement> pm;
    std::vector<PerfEvent> perf;
    Devices devices;
    std::vector<SecurityLabel> security_labels;
    std::optional<Keywrap> keywrap;
    std::optional<LaunchSecurity> launch_security;

    std::optional<QemuCommandline> qemu_commandline;
    std::optional<QemuCapabilities> qemu_capabilities;
    std::optional<QemuOverride> qemu_override;
    std::string qemu_deprecation;  ///< behavior: none, omit, reject, crash

    Unknown unknown;

    // Compiled once, in domain.cpp: written out in each file that copies a definition they cost seconds of it.
    DomainConfig();
    DomainConfig(const DomainConfig&);
    DomainConfig(DomainConfig&&) noexcept;
    DomainConfig& operator=(const DomainConfig&);
    DomainConfig& operator=(DomainConfig&&) noexcept;
    ~DomainConfig();
    bool operator==(const DomainConfig&) const;
};

}  // namespace virtbus
