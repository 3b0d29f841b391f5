// SPDX-License-Identifier: LGPL-2.1-or-later
// <memoryBacking>, <memtune>, <numatune>: where the guest's memory comes from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/basics.hpp"

namespace virtbus {

struct HugePage {
    std::uint64_t size = 0;  ///< bytes
    std::optional<CpuSet> nodeset;
    Unknown unknown;
    bool operator==(const HugePage&) const = default;
};

struct HugePages {
    std::vector<HugePage> pages;  ///< empty = the host's default size
    Unknown unknown;
    bool operator==(const HugePages&) const = default;
};

struct MemoryBacking {
    std::optional<HugePages> hugepages;
    bool nosharepages = false, locked = false, discard = false;
    std::string source_type;      ///< file, anonymous, memfd
    std::string access_mode;      ///< shared, private
    std::string allocation_mode;  ///< immediate, ondemand
    std::optional<std::uint32_t> allocation_threads;
    Unknown unknown;
    bool operator==(const MemoryBacking&) const = default;
};

/// Bytes.
struct MemoryTune {
    std::optional<std::uint64_t> hard_limit, soft_limit, min_guarantee, swap_hard_limit;
    Unknown unknown;
    bool operator==(const MemoryTune&) const = default;
};

struct NumaMemory {
    std::string mode;  ///< strict, preferred, interleave, restrictive
    std::optional<CpuSet> nodeset;
    std::string placement;  ///< static, auto
    Unknown unknown;
    bool operator==(const NumaMemory&) const = default;
};

struct NumaMemnode {
    std::uint32_t cellid = 0;
    std::string mode;
    CpuSet nodeset;
    Unknown unknown;
    bool operator==(const NumaMemnode&) const = default;
};

struct NumaTune {
    std::optional<NumaMemory> memory;
    std::vector<NumaMemnode> memnodes;
    Unknown unknown;
    bool operator==(const NumaTune&) const = default;
};

}  // namespace virtbus
