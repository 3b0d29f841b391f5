// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/unread_images.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qemu/json.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

constexpr std::size_t longest_name = 200;

const json* find_image(const json& nodes, const std::string& name) {
    if (!nodes.is_array()) return nullptr;
    for (const auto& node : nodes)
        if (text(node, "node-name") == name) return &member(node, "image");
    return nullptr;
}

}  // namespace

json nodes_question() {
    return json{{"flat", true}};
}

void require_alone(const std::vector<UnreadImage>& images, const json& nodes) {
    for (const auto& [disk, node] : images) {
        const json* image = find_image(nodes, node);
        if (!image || !image->is_object())
            throw Error{Code::unsupported_configuration,
                        fmt::format("disk '{}': QEMU does not tell what lies below its image; write the chain, or "
                                    "<backingStore/> when nothing does",
                                    disk)};
        const auto below = text(*image, "backing-filename");
        if (below.empty()) continue;
        throw Error{
            Code::unsupported_configuration,
            fmt::format("disk '{}': its image names '{}' as what lies below it, and what an image on a server names is "
                        "not opened; write the chain with <backingStore>, or <backingStore/> to take it without",
                        disk, excerpt(below, longest_name))};
    }
}

void close_chains(DomainConfig& config, const std::vector<UnreadImage>& images) {
    for (auto& disk : config.devices.disks) {
        if (std::ranges::find(images, disk.target.dev, &UnreadImage::disk) == images.end()) continue;
        auto* end = &disk.backing_store;
        while (!end->empty()) end = &end->front().backing_store;
        end->emplace_back();
    }
}

}  // namespace virtbus::qemu
