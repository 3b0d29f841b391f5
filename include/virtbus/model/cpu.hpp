// SPDX-License-Identifier: LGPL-2.1-or-later
// <cpu>: the processor the guest sees, its topology, caches and NUMA cells.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/basics.hpp"

namespace virtbus {

struct CpuModel {
    std::string name;
    std::string fallback;   ///< allow, forbid; "" = allow
    std::string vendor_id;  ///< 12 characters
    Unknown unknown;
    bool operator==(const CpuModel&) const = default;
};

struct CpuTopology {
    std::uint32_t sockets = 1;
    std::optional<std::uint32_t> dies, clusters;
    std::uint32_t cores = 1, threads = 1;
    Unknown unknown;
    bool operator==(const CpuTopology&) const = default;
};

struct CpuCache {
    std::optional<std::uint32_t> level;
    std::string mode;  ///< emulate, passthrough, disable
    Unknown unknown;
    bool operator==(const CpuCache&) const = default;
};

struct CpuMaxPhysAddr {
    std::string mode;  ///< emulate, passthrough
    std::optional<std::uint32_t> bits, limit;
    Unknown unknown;
    bool operator==(const CpuMaxPhysAddr&) const = default;
};

struct CpuFeature {
    std::string policy;  ///< force, require, optional, disable, forbid; "" = require
    std::string name;
    Unknown unknown;
    bool operator==(const CpuFeature&) const = default;
};

/// What a processor like the host's is made of beside its features: <property name='family' value='6'/>. An addition to
/// libvirt's format, found in live definitions.
struct CpuProperty {
    std::string name, value;
    Unknown unknown;
    bool operator==(const CpuProperty&) const = default;
};

struct NumaDistance {
    std::uint32_t id = 0, value = 10;
    Unknown unknown;
    bool operator==(const NumaDistance&) const = default;
};

struct NumaCache {
    std::uint32_t level = 1;
    std::string associativity, policy;
    std::uint64_t size = 0, line = 0;  ///< bytes
    Unknown unknown;
    bool operator==(const NumaCache&) const = default;
};

struct NumaCell {
    std::optional<std::uint32_t> id;  ///< absent: its place in the list
    std::optional<CpuSet> cpus;
    std::uint64_t memory = 0;  ///< bytes
    std::string mem_access;    ///< shared, private
    std::optional<bool> discard;
    std::vector<NumaDistance> distances;
    std::vector<NumaCache> caches;
    Unknown unknown;
    bool operator==(const NumaCell&) const = default;
};

struct NumaInterconnect {
    std::uint32_t initiator = 0, target = 0;
    std::optional<std::uint32_t> cache;
    std::string type;         ///< access, read, write
    std::uint64_t value = 0;  ///< latency: ns; bandwidth: bytes per second
    Unknown unknown;
    bool operator==(const NumaInterconnect&) const = default;
};

struct CpuNuma {
    std::vector<NumaCell> cells;
    std::vector<NumaInterconnect> latencies, bandwidths;
    Unknown unknown;
    bool operator==(const CpuNuma&) const = default;
};

struct Cpu {
    std::string mode;   ///< custom, host-model, host-passthrough, maximum; "" = custom
    std::string match;  ///< minimum, exact, strict
    std::string check;  ///< none, partial, full
    std::optional<bool> migratable, deprecated_features;
    std::optional<CpuModel> model;
    std::string vendor;
    std::optional<CpuTopology> topology;
    std::optional<CpuCache> cache;
    std::optional<CpuMaxPhysAddr> maxphysaddr;
    std::vector<CpuProperty> properties;
    std::vector<CpuFeature> features;
    std::optional<CpuNuma> numa;
    Unknown unknown;
    bool operator==(const Cpu&) const = default;
};

}  // namespace virtbus
