// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/checkpoint_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "service/xml/moment_xml.hpp"

namespace virtbus {

namespace {

bool keeps_bitmaps(const Disk& disk) {
    const auto top = top_image(disk);
    return is_written_disk(disk) && top && top->format == "qcow2";
}

void require_keeps_bitmaps(const Disk& disk) {
    if (keeps_bitmaps(disk)) return;
    const auto top = top_image(disk);
    throw Error{
        Code::unsupported_configuration,
        fmt::format("disk '{}' cannot take part in a checkpoint: {}; only writable qcow2 images keep bitmaps",
                    disk.target.dev,
                    !top ? "it has no local image" : fmt::format("its image is of the format {}", top->format))};
}

std::string bitmap_of(const CheckpointDisk* said, const std::string& checkpoint) {
    if (!said || said->bitmap.empty()) return checkpoint;
    xml::require_moment_name("bitmap", said->bitmap);
    return said->bitmap;
}

/// What the XML says of each disk, by target.
std::map<std::string, const CheckpointDisk*> said_of(const CheckpointConfig& wanted, const DomainConfig& config) {
    std::map<std::string, const CheckpointDisk*> said;
    for (const auto& disk : wanted.disks) {
        const auto* found = find_disk(config, disk.name);
        if (!found) throw Error{Code::invalid_xml, fmt::format("domain '{}' has no disk '{}'", config.name, disk.name)};
        if (!said.emplace(found->target.dev, &disk).second)
            throw Error{Code::invalid_xml, fmt::format("disk '{}' is named twice", found->target.dev)};
    }
    return said;
}

}  // namespace

bool is_written_disk(const Disk& disk) {
    const bool kind = disk.device == DiskDevice::disk || disk.device == DiskDevice::lun;
    return kind && disk.source && !disk.readonly && !disk.transient;
}

const Disk* find_disk(const DomainConfig& config, const std::string& name) {
    for (const auto& disk : config.devices.disks)
        if (disk.target.dev == name) return &disk;
    for (const auto& disk : config.devices.disks)
        if (const auto top = top_image(disk); top && top->path == name) return &disk;
    return nullptr;
}

MomentEntry plan_checkpoint(const CheckpointConfig& wanted, const DomainConfig& config, std::uint64_t now) {
    MomentEntry entry;
    entry.name = wanted.name;
    entry.description = wanted.description;
    entry.creation_time = now;
    const auto said = said_of(wanted, config);
    for (const auto& disk : config.devices.disks) {
        const auto found = said.find(disk.target.dev);
        const auto* words = found == said.end() ? nullptr : found->second;
        if (words && words->checkpoint == "no") continue;
        if (!words && (!wanted.disks.empty() || !keeps_bitmaps(disk))) continue;
        require_keeps_bitmaps(disk);
        MomentDisk part;
        part.target = disk.target.dev;
        part.frozen = *top_image(disk);
        part.bitmap = bitmap_of(words, wanted.name);
        entry.disks.push_back(std::move(part));
    }
    if (entry.disks.empty())
        throw Error{Code::unsupported_configuration,
                    fmt::format("domain '{}' has no disk for a checkpoint; it needs at least one writable qcow2 image",
                                config.name)};
    return entry;
}

CheckpointConfig record_of(const MomentEntry& entry, const CheckpointConfig& wanted, const DomainConfig& config) {
    CheckpointConfig record = wanted;
    record.name = entry.name;
    record.creation_time = entry.creation_time / 1'000'000;
    record.parent = entry.parent;
    record.disks.clear();
    for (const auto& disk : config.devices.disks) {
        CheckpointDisk line;
        line.name = disk.target.dev;
        const auto* part = find_disk(entry, disk.target.dev);
        line.checkpoint = part ? "bitmap" : "no";
        if (part) line.bitmap = part->bitmap;
        record.disks.push_back(std::move(line));
    }
    return record;
}

const MomentDisk* find_disk(const MomentEntry& entry, const std::string& target) {
    const auto found = std::ranges::find(entry.disks, target, &MomentDisk::target);
    return found == entry.disks.end() ? nullptr : &*found;
}

const MomentEntry* nearest(const MomentIndex& index, std::string name, const std::string& target) {
    while (!name.empty()) {
        const auto& entry = index.get(name);
        if (find_disk(entry, target)) return &entry;
        name = entry.parent;
    }
    return nullptr;
}

std::vector<std::string> bitmaps_since(const MomentIndex& index, const std::string& name, const std::string& target) {
    const auto* since = find_disk(index.get(name), target);
    if (!since)
        throw Error{Code::checkpoint_inconsistent,
                    fmt::format("checkpoint '{}' has no bitmap for disk '{}'; back it up as a whole", name, target)};
    std::vector<std::string> bitmaps;
    for (auto at = index.current(); !at.empty(); at = index.get(at).parent) {
        if (const auto* part = find_disk(index.get(at), target)) bitmaps.push_back(part->bitmap);
        if (at == name) return bitmaps;
    }
    throw Error{Code::checkpoint_inconsistent,
                fmt::format("what changed since checkpoint '{}' is not known: the current one, '{}', does not descend "
                            "from it",
                            name, index.current())};
}

std::vector<BitmapChange> changes_for(const MomentEntry& entry, const MomentIndex& index) {
    std::vector<BitmapChange> changes;
    for (const auto& disk : entry.disks) {
        changes.push_back({BitmapChange::Kind::add, disk.target, disk.bitmap, {}});
        if (const auto* before = nearest(index, entry.parent, disk.target))
            changes.push_back({BitmapChange::Kind::disable, disk.target, find_disk(*before, disk.target)->bitmap, {}});
    }
    return changes;
}

}  // namespace virtbus
