// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtbus/model/chain.hpp"

namespace virtbus {

namespace {

bool is_local(StorageType type) {
    return type == StorageType::file || type == StorageType::block;
}

const std::string& path_of(StorageType type, const StorageSource& source) {
    return type == StorageType::block ? source.dev : source.file;
}

/// The chain of definitions whose sources are files has one element per level.
const BackingStore* below(const std::vector<BackingStore>& stores) {
    return stores.empty() || !stores.front().type ? nullptr : &stores.front();
}

}  // namespace

std::optional<ImageFile> top_image(const Disk& disk) {
    if (!disk.source || !is_local(disk.type)) return std::nullopt;
    const auto& path = path_of(disk.type, *disk.source);
    if (path.empty()) return std::nullopt;
    return ImageFile{path, disk.driver && !disk.driver->type.empty() ? disk.driver->type : "raw",
                     disk.type == StorageType::block};
}

std::vector<ImageFile> written_images(const Disk& disk) {
    std::vector<ImageFile> images;
    if (auto top = top_image(disk)) images.push_back(std::move(*top));
    for (const auto* store = below(disk.backing_store); store; store = below(store->backing_store))
        if (store->source && is_local(*store->type))
            images.push_back({path_of(*store->type, *store->source), store->format ? store->format->type : "raw",
                              *store->type == StorageType::block});
    return images;
}

void set_top(Disk& disk, const ImageFile& image) {
    const auto policy = disk.source ? disk.source->startup_policy : std::string{};
    disk.type = image.block_device ? StorageType::block : StorageType::file;
    disk.source.emplace();
    (image.block_device ? disk.source->dev : disk.source->file) = image.path;
    disk.source->startup_policy = policy;
    if (!disk.driver) disk.driver.emplace();
    disk.driver->type = image.format;
    disk.auth.reset();
    disk.encryption.reset();
    disk.backing_store.clear();
}

void put_overlay(Disk& disk, const ImageFile& overlay) {
    std::vector<BackingStore> stores;
    const bool written = !disk.backing_store.empty();
    const bool must_be_written = disk.source && (!is_local(disk.type) || disk.encryption || disk.source->encryption ||
                                                 !disk.source->slices.empty());
    if (written || must_be_written) {
        BackingStore old;
        old.type = disk.type;
        old.format.emplace();
        old.format->type = disk.driver && !disk.driver->type.empty() ? disk.driver->type : "raw";
        old.source = disk.source;
        if (disk.encryption && !old.source->encryption) old.source->encryption = disk.encryption;
        if (disk.auth && !old.source->auth) old.source->auth = disk.auth;
        old.source->startup_policy.clear();
        old.backing_store = std::move(disk.backing_store);
        stores.push_back(std::move(old));
    }
    set_top(disk, overlay);
    disk.backing_store = std::move(stores);
}

void take_out(Disk& disk, const std::string& gone, const ImageFile& below_it) {
    if (const auto top = top_image(disk); top && top->path == gone) {
        const auto stores = std::move(disk.backing_store);
        set_top(disk, below_it);
        const auto* store = below(stores);
        if (!store || !store->source) return;
        disk.type = *store->type;
        disk.source = store->source;
        if (store->format) disk.driver->type = store->format->type;
        disk.backing_store = store->backing_store;
        return;
    }
    for (auto* stores = &disk.backing_store; below(*stores); stores = &stores->front().backing_store) {
        const auto& store = stores->front();
        if (!store.source || !is_local(*store.type) || path_of(*store.type, *store.source) != gone) continue;
        auto rest = store.backing_store;  // `store` goes with the assignment
        *stores = std::move(rest);
        return;
    }
}

}  // namespace virtbus
