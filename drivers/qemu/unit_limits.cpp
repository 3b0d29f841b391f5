// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/unit_limits.hpp"

#include <algorithm>
#include <set>

namespace virtbus::qemu {

namespace {

constexpr std::uint64_t second = 1'000'000;        // microseconds
constexpr std::uint64_t default_period = 100'000;  // of the kernel's scheduler, microseconds
constexpr std::uint64_t default_shares = 1024;     // of everybody, where systemd says weight 100
constexpr std::uint64_t default_io_weight = 500;   // the same for disks
constexpr std::uint64_t default_weight = 100;

std::uint64_t weight_of(std::uint64_t value, std::uint64_t everybodys) {
    return std::clamp<std::uint64_t>(value * default_weight / everybodys, 1, 10'000);
}

/// Microseconds of CPU a second; nothing for "no limit".
std::optional<std::uint64_t> rate(std::optional<std::int64_t> quota, std::optional<std::uint64_t> period) {
    if (!quota || *quota <= 0) return std::nullopt;
    return static_cast<std::uint64_t>(*quota) * second / std::max<std::uint64_t>(period.value_or(default_period), 1);
}

void limit_cpu(const CpuTune& tune, std::uint64_t vcpus, UnitLimits& limits) {
    if (tune.shares) limits.cpu_weight = weight_of(*tune.shares, default_shares);
    if (const auto whole = rate(tune.global_quota, tune.global_period)) {
        limits.cpu_quota = whole;
        limits.cpu_period = tune.global_period;
    } else if (const auto each = rate(tune.quota, tune.period)) {
        // An emulator without a limit gets as much as one CPU.
        limits.cpu_quota = vcpus * *each + rate(tune.emulator_quota, tune.emulator_period).value_or(second);
        limits.cpu_period = tune.period;
    }
}

void limit_memory(const MemoryTune& tune, UnitLimits& limits) {
    limits.memory_max = tune.hard_limit;
    limits.memory_high = tune.soft_limit;
    // The definition counts memory and swap together.
    if (tune.swap_hard_limit && tune.hard_limit)
        limits.swap_max = *tune.swap_hard_limit - std::min(*tune.hard_limit, *tune.swap_hard_limit);
}

void limit_io(const BlkioTune& tune, UnitLimits& limits) {
    if (tune.weight) limits.io_weight = weight_of(*tune.weight, default_io_weight);
    for (const auto& device : tune.devices) {
        auto& limit = limits.devices.emplace_back();
        limit.path = device.path;
        if (device.weight) limit.weight = weight_of(*device.weight, default_io_weight);
        limit.read_bytes = device.read_bytes_sec;
        limit.write_bytes = device.write_bytes_sec;
        limit.reads = device.read_iops_sec;
        limit.writes = device.write_iops_sec;
    }
}

/// Both modes that forbid memory from elsewhere hold for QEMU's own, too, not for the guest's alone.
void limit_nodes(const NumaTune& tune, UnitLimits& limits) {
    const auto firm = [](const std::string& mode) { return mode.empty() || mode == "strict" || mode == "restrictive"; };
    if (!tune.memory || !tune.memory->nodeset || !firm(tune.memory->mode)) return;
    std::set<unsigned> nodes{tune.memory->nodeset->numbers.begin(), tune.memory->nodeset->numbers.end()};
    for (const auto& cell : tune.memnodes) {
        if (!firm(cell.mode)) return;
        nodes.insert(cell.nodeset.numbers.begin(), cell.nodeset.numbers.end());
    }
    limits.memory_nodes.assign(nodes.begin(), nodes.end());
}

}  // namespace

UnitLimits unit_limits(const DomainConfig& config) {
    UnitLimits limits;
    if (config.cputune) limit_cpu(*config.cputune, config.vcpu.value_or(1), limits);
    if (config.memtune) limit_memory(*config.memtune, limits);
    if (config.blkiotune) limit_io(*config.blkiotune, limits);
    if (config.numatune) limit_nodes(*config.numatune, limits);
    return limits;
}

}  // namespace virtbus::qemu
