// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/block/disk_parts.hpp"

#include <algorithm>
#include <utility>

namespace virtbus::qemu {

namespace {

constexpr std::string_view node_word = "blockdev:", set_word = "set:";

std::string node_of(const std::string& part) {
    return part.starts_with(node_word) ? part.substr(node_word.size()) : std::string{};
}

const ImageFile* find_file(const GuestRecord& record, const std::string& node) {
    const auto found = record.images.find(node);
    return found == record.images.end() ? nullptr : &found->second.file;
}

bool has(const DiskParts& disk, const std::string& node) {
    return std::ranges::any_of(disk.images, [&](const ImageParts& image) { return image.node() == node; });
}

auto find_storage(std::vector<std::string>& parts) {
    return std::ranges::find_if(parts, [](const std::string& part) {
        return part.starts_with(node_word) && part.ends_with("-storage") && !part.ends_with("-data-storage");
    });
}

}  // namespace

bool is_image_node(std::string_view node) {
    return node.starts_with("libvirt-") && node.ends_with("-format");
}

std::string ImageParts::node() const {
    return parts.empty() ? std::string{} : node_of(parts.back());
}

std::string ImageParts::storage() const {
    auto all = parts;
    const auto found = find_storage(all);
    return found == all.end() ? std::string{} : node_of(*found);
}

bool ImageParts::holds(std::string_view node) const {
    return std::ranges::any_of(parts, [&](const std::string& part) { return node_of(part) == node; });
}

bool ImageParts::exchange_storage(const std::string& set, const std::string& node) {
    const auto storage = find_storage(parts);
    if (storage == parts.end() || storage == parts.begin() || !(storage - 1)->starts_with(set_word)) return false;
    *storage = std::string{node_word} + node;
    *(storage - 1) = std::string{set_word} + set;
    return true;
}

DiskParts DiskParts::of(const std::vector<std::string>& parts) {
    DiskParts disk;
    ImageParts image;
    for (const auto& part : parts) {
        image.parts.push_back(part);
        if (is_image_node(node_of(part))) disk.images.push_back(std::exchange(image, {}));
    }
    disk.above = std::move(image.parts);
    return disk;
}

std::vector<std::string> DiskParts::texts() const {
    std::vector<std::string> all;
    for (const auto& image : images) all.insert(all.end(), image.parts.begin(), image.parts.end());
    all.insert(all.end(), above.begin(), above.end());
    return all;
}

std::string DiskParts::root() const {
    for (auto part = above.rbegin(); part != above.rend(); ++part)
        if (auto node = node_of(*part); !node.empty()) return node;
    return images.empty() ? std::string{} : images.back().node();
}

void follow_images(Disk& disk, const DiskParts& before, const DiskParts& now, const GuestRecord& record) {
    if (!now.images.empty() && !has(before, now.images.back().node()))
        if (const auto* top = find_file(record, now.images.back().node())) put_overlay(disk, *top);
    for (auto i = before.images.size(); i-- > 0;) {
        const auto* gone = find_file(record, before.images[i].node());
        if (has(now, before.images[i].node()) || !gone) continue;
        const auto* below = i > 0 ? find_file(record, before.images[i - 1].node()) : nullptr;
        take_out(disk, gone->path, below ? *below : ImageFile{});
    }
}

}  // namespace virtbus::qemu
