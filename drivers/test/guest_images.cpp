// SPDX-License-Identifier: LGPL-2.1-or-later
// Snapshots, bitmaps, backups and the agent of a test guest: what would become of its images is put on the shelf, what
// its definition says of them follows.
#include <fmt/format.h>

#include <algorithm>

#include "test/guest.hpp"
#include "virtbus/error.hpp"

namespace virtbus::test_driver {

namespace {

constexpr std::uint64_t made_up_bytes = std::uint64_t{4} << 20;

ImageFile require_top(const Disk& disk, const std::string& domain) {
    if (auto top = top_image(disk)) return *top;
    throw Error{
        Code::unsupported_configuration,
        fmt::format("disk '{}' of test domain '{}' writes to no file or block device", disk.target.dev, domain)};
}

std::size_t place_of(const std::vector<ImageFile>& chain, const std::string& path, const std::string& domain) {
    const auto found = std::ranges::find(chain, path, &ImageFile::path);
    if (found == chain.end())
        throw Error{Code::hypervisor_failed, fmt::format("test domain '{}' has no image {} there", domain, path)};
    return static_cast<std::size_t>(found - chain.begin());
}

}  // namespace

Disk& TestGuest::disk_of(DomainConfig& config, const std::string& target) const {
    for (auto& disk : config.devices.disks)
        if (disk.target.dev == target) return disk;
    throw Error{Code::no_such_device, fmt::format("test domain '{}' has no disk '{}'", config_.name, target)};
}

/// Takes its time, telling how far it is, and fails half-way when it shall.
Task<> TestGuest::work_on_images(ProgressSink progress, std::string fails, std::stop_token stop) {
    co_await reach();
    if (progress) progress(0, made_up_bytes);
    co_await sleep(loop_, behaviour_.snapshot_time / 2, stop);
    if (progress) progress(made_up_bytes / 2, made_up_bytes);
    if (!fails.empty()) throw Error{Code::hypervisor_failed, fmt::format("domain '{}': {}", config_.name, fails)};
    if (behaviour_.hang_snapshot) {
        Reply<> never{loop_};
        hanging_.push_back(never.promise());
        co_await never.wait(fmt::format("the work on images of test domain '{}'", config_.name), std::nullopt, stop);
    }
    co_await sleep(loop_, behaviour_.snapshot_time / 2, stop);
    if (gone_) throw Error{Code::hypervisor_failed, fmt::format("test domain '{}' has ended", config_.name)};
    if (progress) progress(made_up_bytes, made_up_bytes);
}

/// An earlier daemon may have changed a chain without living to put it on record.
void TestGuest::follow_chains() {
    const auto& shelf = shelf_.now();
    for (auto& disk : config_.devices.disks) {
        const auto recorded = shelf.tops.find(config_.uuid + ' ' + disk.target.dev);
        const auto top = top_image(disk);
        if (recorded == shelf.tops.end() || !top || *top == recorded->second) continue;
        const auto kept = shelf.images.find(recorded->second.path);
        if (kept != shelf.images.end() && kept->second.backing && kept->second.backing->path == top->path)
            put_overlay(disk, recorded->second);
        else
            set_top(disk, recorded->second);
    }
}

// ---- snapshots -----------------------------------------------------------------------------------------------------

Task<> TestGuest::put_overlays(std::vector<NewOverlay> overlays, Resources&, std::stop_token stop) {
    co_await work_on_images({}, behaviour_.fail_snapshot, stop);
    auto config = config_;
    auto shelf = shelf_.now();
    for (const auto& overlay : overlays) {
        auto& disk = disk_of(config, overlay.disk);
        const auto below = require_top(disk, config_.name);
        auto& image = shelf.images[overlay.image.path];
        image.backing = below;
        for (const auto& [name, bitmap] : shelf.images[below.path].bitmaps)
            if (bitmap.recording && bitmap.persistent) image.bitmaps[name] = bitmap;
        put_overlay(disk, overlay.image);
        shelf.tops[config_.uuid + ' ' + overlay.disk] = overlay.image;
    }
    shelf_.set(std::move(shelf));
    config_ = std::move(config);
}

void TestGuest::put_tags(const InternalSnapshot& snapshot, const std::string& memory) {
    auto shelf = shelf_.now();
    for (std::size_t i = 0; i < snapshot.disks.size(); ++i) {
        const auto top = require_top(disk_of(config_, snapshot.disks[i]), config_.name);
        shelf.images[top.path].tags[snapshot.tag] = i == 0 ? memory : "";
    }
    shelf_.set(std::move(shelf));
}

Task<> TestGuest::take_internal(InternalSnapshot snapshot, ProgressSink progress, std::stop_token stop) {
    co_await work_on_images(std::move(progress), behaviour_.fail_snapshot, stop);
    put_tags(snapshot, encode(record_));
}

Task<> TestGuest::take_disks_only(InternalSnapshot snapshot, std::stop_token stop) {
    co_await work_on_images({}, behaviour_.fail_snapshot, stop);
    put_tags(snapshot, "");
}

Task<> TestGuest::load_internal(InternalSnapshot snapshot, ProgressSink progress, std::stop_token stop) {
    co_await reach();
    if (!record_.paused) later([this] { events_.state_changed(State::paused, "from-snapshot"); });
    record_.paused = true;
    co_await work_on_images(std::move(progress), behaviour_.fail_revert, stop);
    const auto& images = shelf_.now().images;
    std::string memory;
    for (std::size_t i = 0; i < snapshot.disks.size(); ++i) {
        const auto top = require_top(disk_of(config_, snapshot.disks[i]), config_.name);
        const auto image = images.find(top.path);
        if (image == images.end() || !image->second.tags.contains(snapshot.tag))
            throw Error{Code::hypervisor_failed, fmt::format("domain '{}': {} has no internal snapshot '{}'",
                                                             config_.name, top.path, snapshot.tag)};
        if (i == 0) memory = image->second.tags.at(snapshot.tag);
    }
    if (memory.empty())
        throw Error{Code::hypervisor_failed,
                    fmt::format("domain '{}': the snapshot '{}' holds no memory", config_.name, snapshot.tag)};
    record_.booted_at = decode_record(memory).booted_at;
    resume_reason_ = "from-snapshot";
}

Task<> TestGuest::remove_internal(InternalSnapshot snapshot, std::stop_token) {
    co_await reach();
    auto shelf = shelf_.now();
    for (const auto& target : snapshot.disks)
        shelf.images[require_top(disk_of(config_, target), config_.name).path].tags.erase(snapshot.tag);
    shelf_.set(std::move(shelf));
}

/// The chain of the disk's images without those that leave it.
void TestGuest::merge_chain(const ChainMerge& merge) {
    auto shelf = shelf_.now();
    auto& disk = disk_of(config_, merge.disk);
    const auto chain = shelf.chain(require_top(disk, config_.name));
    const bool commit = merge.how == ChainMerge::How::commit;
    const auto upper = place_of(chain, merge.upper, config_.name);
    const auto lower = merge.lower.empty() ? chain.size() : place_of(chain, merge.lower, config_.name);
    const auto first = commit ? upper : upper + 1;
    if (lower < first || (commit && merge.lower.empty()))
        throw Error{Code::hypervisor_failed,
                    fmt::format("domain '{}': {} does not lie below {}", config_.name, merge.lower, merge.upper)};
    for (auto gone = first; gone < lower; ++gone)
        take_out(disk, chain[gone].path, gone + 1 < chain.size() ? chain[gone + 1] : ImageFile{});
    if (first > 0)
        shelf.images[chain[first - 1].path].backing = lower < chain.size() ? std::optional{chain[lower]} : std::nullopt;
    shelf.tops[config_.uuid + ' ' + merge.disk] = require_top(disk, config_.name);
    shelf_.set(std::move(shelf));
}

Task<> TestGuest::merge(ChainMerge merge, Resources&, ProgressSink progress, std::stop_token stop) {
    co_await work_on_images(std::move(progress), behaviour_.fail_merge, stop);
    merge_chain(merge);
    co_await merge.settle();
}

// ---- bitmaps and backups -------------------------------------------------------------------------------------------

Task<std::vector<BitmapFacts>> TestGuest::bitmaps(std::stop_token) {
    co_await reach();
    std::vector<BitmapFacts> found;
    const auto& shelf = shelf_.now();
    for (const auto& disk : config_.devices.disks) {
        const auto top = top_image(disk);
        if (!top) continue;
        for (const auto& image : shelf.chain(*top)) {
            const auto kept = shelf.images.find(image.path);
            if (kept == shelf.images.end()) continue;
            for (const auto& [name, one] : kept->second.bitmaps)
                found.push_back({disk.target.dev, name, one.recording, one.persistent, false, one.granularity,
                                 one.granularity, image.path});
        }
    }
    co_return found;
}

void TestGuest::change_bitmap(Shelf& shelf, const BitmapChange& change) {
    const auto top = require_top(disk_of(config_, change.disk), config_.name);
    auto& bitmaps = shelf.images[top.path].bitmaps;
    const auto require = [&](const std::string& name) -> KeptImage::Bitmap& {
        const auto found = bitmaps.find(name);
        if (found != bitmaps.end()) return found->second;
        throw Error{Code::hypervisor_failed,
                    fmt::format("domain '{}': disk '{}' has no bitmap '{}'", config_.name, change.disk, name)};
    };
    switch (change.kind) {
        case BitmapChange::Kind::add:
            if (bitmaps.contains(change.name))
                throw Error{Code::already_exists, fmt::format("domain '{}': disk '{}' has a bitmap '{}' already",
                                                              config_.name, change.disk, change.name)};
            bitmaps[change.name] = {true, change.persistent, change.granularity.value_or(65536)};
            return;
        case BitmapChange::Kind::remove:
            (void)require(change.name);
            bitmaps.erase(change.name);
            return;
        case BitmapChange::Kind::merge:
            (void)require(change.name);
            if (std::ranges::none_of(shelf.chain(top), [&](const ImageFile& image) {
                    const auto kept = shelf.images.find(image.path);
                    return kept != shelf.images.end() && kept->second.bitmaps.contains(change.source);
                }))
                (void)require(change.source);
            return;
        case BitmapChange::Kind::enable:
        case BitmapChange::Kind::disable:
            require(change.name).recording = change.kind == BitmapChange::Kind::enable;
            return;
    }
}

Task<> TestGuest::change_bitmaps(std::vector<BitmapChange> changes, std::stop_token) {
    co_await reach();
    auto shelf = shelf_.now();
    for (const auto& change : changes) change_bitmap(shelf, change);
    shelf_.set(std::move(shelf));
}

Task<> TestGuest::begin_backup(BackupRequest request, std::stop_token) {
    co_await reach();
    if (backup_) throw Error{Code::invalid_state, fmt::format("test domain '{}' has a backup under way", config_.name)};
    auto shelf = shelf_.now();
    for (const auto& part : request.parts) (void)require_top(disk_of(config_, part.disk), config_.name);
    for (const auto& change : request.bitmaps) change_bitmap(shelf, change);
    shelf_.set(std::move(shelf));
    backup_ = true;
}

Task<> TestGuest::finish_backup(ProgressSink progress, std::stop_token stop) {
    if (!backup_) throw Error{Code::invalid_state, fmt::format("test domain '{}' has no backup", config_.name)};
    co_await work_on_images(std::move(progress), behaviour_.fail_backup, stop);
}

Task<> TestGuest::end_backup() {
    backup_ = false;
    co_return;
}

// ---- the agent -----------------------------------------------------------------------------------------------------

void TestGuest::require_agent() const {
    const auto& channels = config_.devices.channels;
    const bool channel = std::ranges::any_of(
        channels, [](const Channel& one) { return one.target && one.target->name == "org.qemu.guest_agent.0"; });
    if (!channel)
        throw Error{Code::agent_unavailable,
                    fmt::format("test domain '{}' has no channel org.qemu.guest_agent.0", config_.name)};
    if (behaviour_.agent == "none" || behaviour_.agent == "silent")
        throw Error{Code::agent_unavailable,
                    fmt::format("the guest agent of test domain '{}' {}", config_.name,
                                behaviour_.agent == "none" ? "is not there" : "does not answer")};
    if (behaviour_.agent == "fails")
        throw Error{Code::agent_failed, fmt::format("the guest agent of test domain '{}' refuses", config_.name)};
}

Task<> TestGuest::freeze(std::stop_token) {
    co_await reach();
    require_agent();
}

Task<> TestGuest::thaw() {
    co_await reach();
    require_agent();
}

}  // namespace virtbus::test_driver
