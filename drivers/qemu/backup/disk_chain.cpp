// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/backup/disk_chain.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/image_header.hpp"
#include "qemu/json.hpp"
#include "qemu/live_config.hpp"
#include "virtbus/model/chain.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

constexpr std::size_t deepest = 300;

bool is_filter(std::string_view driver) {
    static constexpr std::string_view filters[]{"throttle",   "copy-on-read", "copy-before-write", "mirror_top",
                                                "commit_top", "preallocate",  "blklogwrites",      "compress"};
    return std::ranges::find(filters, driver) != std::end(filters);
}

ChainNode node_of(const json& said) {
    ChainNode node;
    node.node = text(said, "node-name");
    node.driver = text(said, "drv");
    node.read_only = flag(said, "ro");
    node.size = number(member(said, "image"), "virtual-size");
    for (const auto& bitmap : member(said, "dirty-bitmaps"))
        node.bitmaps.push_back({text(bitmap, "name"), flag(bitmap, "recording"), flag(bitmap, "persistent"),
                                flag(bitmap, "inconsistent"), number(bitmap, "count"),
                                static_cast<std::uint32_t>(number(bitmap, "granularity"))});
    return node;
}

/// Where the image below lies, as the one above names it.
std::string path_below(const std::string& above, const json& said) {
    const auto name = text(member(said, "image"), "backing-filename");
    if (above.empty() || name.empty()) return {};
    try {
        return common::resolve_backing(above, name).path;
    } catch (const Error&) {
        return {};
    }
}

DiskChain chain_of(const Disk& disk, const json& stats, const std::map<std::string, const json*>& nodes) {
    DiskChain chain;
    const auto written = written_images(disk);
    const json* level = &stats;
    std::string named_below;
    for (std::size_t depth = 0; level->is_object() && depth < deepest; level = &member(*level, "backing"), ++depth) {
        const auto said = nodes.find(text(*level, "node-name"));
        if (said == nodes.end() || is_filter(text(*said->second, "drv"))) continue;
        auto node = node_of(*said->second);
        node.path = chain.size() < written.size() ? written[chain.size()].path : named_below;
        named_below = path_below(node.path, *said->second);
        chain.push_back(std::move(node));
    }
    return chain;
}

}  // namespace

const NodeBitmap* ChainNode::find(const std::string& bitmap) const {
    const auto found = std::ranges::find(bitmaps, bitmap, &NodeBitmap::name);
    return found == bitmaps.end() ? nullptr : &*found;
}

std::map<std::string, DiskChain> disk_chains(const DomainConfig& config, const json& stats, const json& nodes) {
    std::map<std::string, const json*> by_name;
    for (const auto& node : nodes) by_name.emplace(text(node, "node-name"), &node);
    std::map<std::string, DiskChain> chains;
    for (const auto& drive : stats) {
        const auto alias = alias_of_path(text(drive, "qdev"), text(drive, "device"));
        for (const auto& disk : config.devices.disks)
            if (!alias.empty() && disk.info.alias == alias)
                if (auto chain = chain_of(disk, drive, by_name); !chain.empty())
                    chains[disk.target.dev] = std::move(chain);
    }
    return chains;
}

Task<std::map<std::string, DiskChain>> disk_chains(std::shared_ptr<GuestCore> core, std::stop_token stop) {
    const Monitor::Answer asked[] = {
        core->open_monitor().send("query-blockstats"),
        core->open_monitor().send("query-named-block-nodes", json{{"flat", true}}),
    };
    const auto stats = co_await asked[0].get(core->verb_deadline(), stop);
    const auto nodes = co_await asked[1].get(core->verb_deadline(), stop);
    co_return disk_chains(core->config, stats, nodes);
}

}  // namespace virtbus::qemu
