// SPDX-License-Identifier: LGPL-2.1-or-later
// The images that a running guest's disks consist of, as QEMU has them: their nodes and the bitmaps in them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <stop_token>
#include <string>
#include <vector>

#include "qemu/guest.hpp"

namespace virtbus::qemu {

struct NodeBitmap {
    std::string name;
    bool recording = false, persistent = false, inconsistent = false;
    std::uint64_t dirty = 0;  ///< bytes
    std::uint32_t granularity = 0;
};
struct ChainNode {
    std::string node, driver;
    std::string path;  ///< of the image; "" when it is no local file
    bool read_only = false;
    std::uint64_t size = 0;  ///< bytes the guest sees
    std::vector<NodeBitmap> bitmaps;
    const NodeBitmap* find(const std::string& bitmap) const;
};
/// From what the disk writes to downwards; what only filters is left out.
using DiskChain = std::vector<ChainNode>;

/// By target; an empty drive has none.
Task<std::map<std::string, DiskChain>> disk_chains(std::shared_ptr<GuestCore> core, std::stop_token stop);
/// The same from QEMU's answers to query-blockstats and query-named-block-nodes.
std::map<std::string, DiskChain> disk_chains(const DomainConfig& config, const nlohmann::json& stats,
                                             const nlohmann::json& nodes);

}  // namespace virtbus::qemu
