// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/block/graph.hpp"

#include <nlohmann/json.hpp>

#include "qemu/json.hpp"
#include "qemu/live_config.hpp"

namespace virtbus::qemu {

using nlohmann::json;

BlockGraph::BlockGraph(const json& graph, const json& nodes) {
    struct End {
        std::string name;
        bool device = false;
    };
    std::map<std::uint64_t, End> ends;
    for (const auto& node : member(graph, "nodes"))
        ends[number(node, "id")] = {text(node, "name"), text(node, "type") == "block-backend"};
    for (const auto& edge : member(graph, "edges")) {
        const auto& parent = ends[number(edge, "parent")];
        const auto& below = ends[number(edge, "child")];
        if (below.name.empty() || parent.name.empty()) continue;
        if (parent.device)
            roots_[alias_of_path(parent.name, parent.name)] = below.name;
        else
            children_[parent.name][text(edge, "name")] = below.name;
    }
    for (const auto& node : nodes) {
        nodes_.insert(text(node, "node-name"));
        if (!flag(node, "ro", true)) writable_.insert(text(node, "node-name"));
    }
}

std::string BlockGraph::child(const std::string& node, const char* name) const {
    const auto all = children_.find(node);
    if (all == children_.end()) return {};
    const auto found = all->second.find(name);
    return found == all->second.end() ? std::string{} : found->second;
}

std::vector<std::string> BlockGraph::chain(std::string_view alias) const {
    std::vector<std::string> images;
    const auto root = roots_.find(std::string{alias});
    if (root == roots_.end()) return images;
    auto node = root->second;
    for (std::size_t steps = 0; !node.empty() && steps <= nodes_.size(); ++steps) {
        const bool image = is_image_node(node);
        if (image) images.push_back(node);
        auto below = child(node, "backing");
        // A filter has what it filters under the one name or the other.
        if (below.empty() && !image) below = child(node, "file");
        node = std::move(below);
    }
    return images;
}

bool BlockGraph::is(std::string_view alias, const DiskParts& disk) const {
    const auto images = chain(alias);
    if (images.empty() || images.size() != disk.images.size()) return false;
    for (std::size_t i = 0; i < images.size(); ++i) {
        const auto& said = disk.images[disk.images.size() - 1 - i];
        if (said.node() != images[i] || !said.holds(child(images[i], "file"))) return false;
    }
    return true;
}

}  // namespace virtbus::qemu
