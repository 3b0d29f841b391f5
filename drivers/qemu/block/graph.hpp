// SPDX-License-Identifier: LGPL-2.1-or-later
// QEMU's own word on its block nodes: which there are and what lies on what. Read from an answer that is not trusted.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "qemu/block/disk_parts.hpp"

namespace virtbus::qemu {

class BlockGraph {
public:
    /// From the answers of x-debug-query-block-graph and query-named-block-nodes.
    BlockGraph(const nlohmann::json& graph, const nlohmann::json& nodes);

    bool has(const std::string& node) const { return nodes_.contains(node); }
    bool is_writable(const std::string& node) const { return writable_.contains(node); }
    /// The images below a device, from the top; filters of all kinds between them are passed over.
    std::vector<std::string> chain(std::string_view alias) const;
    /// The device's chain is this one, and each image reads what it says.
    bool is(std::string_view alias, const DiskParts& disk) const;

private:
    /// "" when the node has no such child.
    std::string child(const std::string& node, const char* name) const;

    std::set<std::string> nodes_, writable_;
    std::map<std::string, std::string> roots_;                            // by the device's alias
    std::map<std::string, std::map<std::string, std::string>> children_;  // node, name of the edge, node
};

}  // namespace virtbus::qemu
