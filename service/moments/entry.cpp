// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/entry.hpp"

#include <algorithm>
#include <limits>

namespace virtbus {

namespace {

constexpr std::uint64_t second = 1'000'000;

std::uint64_t microseconds(const std::optional<std::uint64_t>& seconds) {
    constexpr auto most = std::numeric_limits<std::uint64_t>::max();
    return !seconds ? 0 : *seconds > most / second ? most : *seconds * second;
}

/// By its target, or by the path of what it writes to.
const Disk* find_disk(const DomainConfig* domain, const std::string& name) {
    if (!domain) return nullptr;
    for (const auto& disk : domain->devices.disks)
        if (disk.target.dev == name) return &disk;
    for (const auto& disk : domain->devices.disks)
        if (const auto top = top_image(disk); top && top->path == name) return &disk;
    return nullptr;
}

ImageFile overlay_of(const SnapshotDisk& disk) {
    if (disk.place != SnapshotPlace::external || !disk.source) return {};
    const bool block = disk.type == StorageType::block;
    const auto& path = block ? disk.source->dev : disk.source->file;
    if (path.empty()) return {};
    return {path, disk.driver ? disk.driver->type : "qcow2", block};
}

bool is_written(const Disk& disk) {
    return disk.device != DiskDevice::cdrom && disk.device != DiskDevice::floppy && !disk.readonly && disk.source;
}

/// A disk that the snapshot does not name: in an internal one it goes with the others, in an external one nothing was
/// put on it.
SnapshotPlace unnamed_place(const Disk& disk, SnapshotKind kind) {
    if (!is_written(disk) || disk.snapshot == "no") return SnapshotPlace::no;
    if (disk.snapshot == "manual") return SnapshotPlace::manual;
    return kind == SnapshotKind::internal ? SnapshotPlace::internal : SnapshotPlace::no;
}

MomentDisk disk_of(const SnapshotDisk& named, const Disk* disk, SnapshotKind kind) {
    MomentDisk moment;
    moment.target = disk ? disk->target.dev : named.name;
    moment.place = named.place;
    if (moment.place == SnapshotPlace::unset) moment.place = disk ? unnamed_place(*disk, kind) : SnapshotPlace::no;
    if (disk) moment.frozen = top_image(*disk).value_or(ImageFile{});
    moment.overlay = overlay_of(named);
    return moment;
}

bool is_there(const std::vector<MomentDisk>& disks, const std::string& target) {
    return std::any_of(disks.begin(), disks.end(), [&](const MomentDisk& disk) { return disk.target == target; });
}

}  // namespace

SnapshotKind kind_of(const SnapshotConfig& config) {
    if (config.state == "disk-snapshot") return SnapshotKind::disk_only;
    const auto outside = [](const auto& part) { return part.place == SnapshotPlace::external; };
    const bool external =
        (config.memory && outside(*config.memory)) || std::any_of(config.disks.begin(), config.disks.end(), outside);
    return external ? SnapshotKind::external : SnapshotKind::internal;
}

MomentEntry entry_of(const SnapshotConfig& config, const DomainConfig* domain) {
    MomentEntry entry;
    entry.name = config.name;
    entry.description = config.description;
    entry.parent = config.parent;
    entry.state = config.state;
    entry.kind = kind_of(config);
    entry.creation_time = microseconds(config.creation_time);
    entry.has_domain = !config.domain.empty();
    if (config.memory && config.memory->place == SnapshotPlace::external) entry.memory_file = config.memory->file;
    for (const auto& named : config.disks)
        entry.disks.push_back(disk_of(named, find_disk(domain, named.name), entry.kind));
    if (!domain) return entry;
    for (const auto& disk : domain->devices.disks)
        if (!is_there(entry.disks, disk.target.dev))
            entry.disks.push_back(
                {disk.target.dev, unnamed_place(disk, entry.kind), top_image(disk).value_or(ImageFile{}), {}, {}});
    return entry;
}

MomentEntry entry_of(const CheckpointConfig& config, const DomainConfig* domain) {
    MomentEntry entry;
    entry.name = config.name;
    entry.description = config.description;
    entry.parent = config.parent;
    entry.state = "running";
    entry.creation_time = microseconds(config.creation_time);
    entry.has_domain = !config.domain.empty();
    for (const auto& named : config.disks) {
        const auto* disk = find_disk(domain, named.name);
        MomentDisk moment;
        moment.target = disk ? disk->target.dev : named.name;
        moment.place = named.checkpoint == "no" ? SnapshotPlace::no : SnapshotPlace::unset;
        if (disk) moment.frozen = top_image(*disk).value_or(ImageFile{});
        if (named.checkpoint != "no") moment.bitmap = named.bitmap.empty() ? config.name : named.bitmap;
        entry.disks.push_back(std::move(moment));
    }
    return entry;
}

}  // namespace virtbus
