// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/backup/bitmap_changes.hpp"

#include <fmt/format.h>

namespace virtbus::qemu {

using nlohmann::json;

const DiskChain& BitmapActions::chain(const std::string& disk) const {
    const auto found = chains_.find(disk);
    if (found == chains_.end())
        throw Error{Code::no_such_device, fmt::format("{} has no disk '{}' with an image in it", who_, disk)};
    return found->second;
}

ChainNode& BitmapActions::top(const std::string& disk) {
    (void)chain(disk);
    return chains_[disk].front();
}

const NodeBitmap& BitmapActions::get(const ChainNode& node, const std::string& disk, const std::string& name) const {
    const auto* bitmap = node.find(name);
    if (!bitmap)
        throw Error{Code::checkpoint_inconsistent,
                    fmt::format("{}: there is no bitmap '{}' in the image of disk '{}'", who_, name, disk)};
    if (bitmap->inconsistent)
        throw Error{Code::checkpoint_inconsistent,
                    fmt::format("{}: the bitmap '{}' of disk '{}' was in use when an earlier QEMU ended, so what it "
                                "has is not known",
                                who_, name, disk)};
    return *bitmap;
}

/// The bitmaps of that name in all images of the disk.
json BitmapActions::sources(const std::string& disk, const std::string& name) const {
    json all = json::array();
    for (const auto& node : chain(disk))
        if (node.find(name)) {
            (void)get(node, disk, name);
            all.push_back({{"node", node.node}, {"name", name}});
        }
    if (all.empty()) (void)get(chain(disk).front(), disk, name);
    return all;
}

void BitmapActions::add(std::string type, json data) {
    actions_.push_back({{"type", std::move(type)}, {"data", std::move(data)}});
}

void BitmapActions::create(const std::string& disk, const BitmapChange& change) {
    auto& node = top(disk);
    if (node.find(change.name))
        throw Error{Code::already_exists,
                    fmt::format("{}: the image of disk '{}' has a bitmap '{}' already", who_, disk, change.name)};
    if (change.persistent && node.driver != "qcow2")
        throw Error{Code::unsupported_configuration,
                    fmt::format("{}: only qcow2 images can keep a bitmap; disk '{}' writes to one of the format {}",
                                who_, disk, node.driver)};
    json data{{"node", node.node}, {"name", change.name}, {"persistent", change.persistent}};
    if (change.granularity) data["granularity"] = *change.granularity;
    add("block-dirty-bitmap-add", std::move(data));
    node.bitmaps.push_back({change.name, true, change.persistent, false, 0, change.granularity.value_or(0)});
}

void BitmapActions::add(const BitmapChange& change) {
    using Kind = BitmapChange::Kind;
    auto& node = top(change.disk);
    const json named{{"node", node.node}, {"name", change.name}};
    if (change.kind == Kind::add) return create(change.disk, change);
    if (change.kind == Kind::remove) {
        if (!node.find(change.name)) return;
        add("block-dirty-bitmap-remove", named);
        std::erase_if(node.bitmaps, [&](const NodeBitmap& bitmap) { return bitmap.name == change.name; });
        return;
    }
    if (change.kind == Kind::merge) {
        auto from = sources(change.disk, change.source);
        if (!node.find(change.name)) {
            auto fresh = change;
            create(change.disk, fresh);
            add("block-dirty-bitmap-disable", named);
        }
        (void)get(node, change.disk, change.name);
        add("block-dirty-bitmap-merge", {{"node", node.node}, {"target", change.name}, {"bitmaps", std::move(from)}});
        return;
    }
    if (change.kind == Kind::disable) {
        if (node.find(change.name)) add("block-dirty-bitmap-disable", named);
        return;
    }
    if (node.find(change.name)) {
        (void)get(node, change.disk, change.name);
        add("block-dirty-bitmap-enable", named);
    } else {
        create(change.disk, change);
    }
}

void BitmapActions::add_union(const std::string& disk, const std::vector<std::string>& names, const std::string& node,
                              const std::string& name) {
    json all = json::array();
    for (const auto& source : names)
        for (auto& each : sources(disk, source)) all.push_back(std::move(each));
    add("block-dirty-bitmap-add", {{"node", node}, {"name", name}, {"persistent", false}, {"disabled", true}});
    add("block-dirty-bitmap-merge", {{"node", node}, {"target", name}, {"bitmaps", std::move(all)}});
}

}  // namespace virtbus::qemu
