// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/image_levels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::size_t most_written = 200;

[[noreturn]] void refuse(const Disk& disk, const std::string& why) {
    throw Error{Code::unsupported_configuration, fmt::format("disk '{}': {}", disk.target.dev, why)};
}

ImageLevel top_of(const Disk& disk) {
    ImageLevel top;
    top.type = disk.type;
    top.format = disk.driver && !disk.driver->type.empty() ? disk.driver->type : "raw";
    top.source = &*disk.source;
    if (disk.encryption) top.encryption = &*disk.encryption;
    if (disk.source->encryption) top.encryption = &*disk.source->encryption;
    if (disk.auth) top.auth = &*disk.auth;
    if (disk.source->auth) top.auth = &*disk.source->auth;
    return top;
}

ImageLevel level_of(const BackingStore& store) {
    ImageLevel level;
    level.type = *store.type;
    level.format = store.format && !store.format->type.empty() ? store.format->type : "raw";
    level.source = &*store.source;
    if (store.source->encryption) level.encryption = &*store.source->encryption;
    if (store.source->auth) level.auth = &*store.source->auth;
    return level;
}

/// A drive whose source has a policy, say, but no medium.
bool names_nothing(const Disk& disk) {
    const auto& source = *disk.source;
    return (disk.type == StorageType::file && source.file.empty()) ||
           (disk.type == StorageType::block && source.dev.empty());
}

bool has_backing(const std::string& format) {
    constexpr std::array formats{"qcow2", "qcow", "qed", "vmdk"};
    return std::ranges::count(formats, format) > 0;
}

void check_encryption(const Disk& disk, const ImageLevel& level) {
    const auto& encryption = *level.encryption;
    if (encryption.engine == "librbd") {
        if (level.source->protocol != "rbd") refuse(disk, "encryption by librbd is for sources of protocol 'rbd'");
        if (encryption.format != "luks" && encryption.format != "luks2" && encryption.format != "luks-any")
            refuse(disk,
                   fmt::format("librbd does not encrypt with '{}' here; use 'luks' or 'luks2'", encryption.format));
    } else if (encryption.format != "luks") {
        refuse(disk, fmt::format("QEMU cannot use images encrypted with '{}', only with 'luks'", encryption.format));
    } else if (level.format != "raw" && level.format != "luks" && level.format != "qcow2") {
        refuse(disk, fmt::format("images of the format '{}' cannot be encrypted; 'raw' and 'qcow2' can", level.format));
    }
    if (encryption.secrets.size() != 1)
        refuse(disk, fmt::format("its encryption names {} secrets; it needs one", encryption.secrets.size()));
}

/// No header of such an image can be read before QEMU does, so nothing may depend on it.
void check_unread(const Disk& disk, const ImageLevel& level) {
    if (level.format == "vmdk") refuse(disk, "images of the format 'vmdk' must be local files: they may name others");
}

/// A secret is for the service that it says.
void check_secret(const Disk& disk, const ImageLevel& level) {
    const std::string &protocol = level.source->protocol, &type = level.auth->secret->type;
    const std::string_view own = protocol == "rbd" ? "ceph" : protocol == "iscsi" ? "iscsi" : std::string_view{};
    if (!own.empty() && !type.empty() && type != own)
        refuse(disk,
               fmt::format("its <auth> has a secret of type '{}'; protocol '{}' takes '{}'", type, protocol, own));
}

void check_level(const Disk& disk, const ImageLevel& level) {
    const auto& source = *level.source;
    if (level.encryption) check_encryption(disk, level);
    if (level.format == "luks" && !level.encryption) refuse(disk, "its format is 'luks', but it has no <encryption>");
    if (level.type == StorageType::volume)
        refuse(disk, fmt::format("volume '{}' of pool '{}' was not looked up; below another image name its file or "
                                 "block device",
                                 source.volume, source.pool));
    if (level.type == StorageType::dir && !disk.readonly)
        refuse(disk, "a folder can only be shown read-only; add <readonly/>");
    if (level.type == StorageType::dir && level.format != "fat" && level.format != "raw")
        refuse(disk, fmt::format("a folder is shown with the format 'fat', not '{}'", level.format));
    if (level.type != StorageType::dir && (level.format == "fat" || level.format == "dir"))
        refuse(disk, fmt::format("the format '{}' is for folders", level.format));
    constexpr std::array none{"cow", "ploop", "aio"};
    if (std::ranges::count(none, level.format))
        refuse(disk, fmt::format("QEMU does not read images of the format '{}'", level.format));
    if (level.auth && level.auth->secret) check_secret(disk, level);
    if (source.slices.size() > 1) refuse(disk, "only one slice of an image can be used");
    if (!source.fd_group.empty()) refuse(disk, "groups of descriptors (fdgroup) are not served; name the file");
    if (source.reservations) {
        if (level.type != StorageType::block) refuse(disk, "persistent reservations are for block devices");
        if (!source.reservations->managed.value_or(false) && source.reservations->path.empty())
            refuse(disk, "its <reservations> name no socket");
    }
}

}  // namespace

ImageLevels written_levels(const Disk& disk) {
    ImageLevels out;
    if (!disk.source || names_nothing(disk)) return out;
    if (disk.transient) {
        ImageLevel overlay;
        overlay.format = "qcow2";
        out.levels.push_back(overlay);
    }
    out.levels.push_back(top_of(disk));
    const auto* below = &disk.backing_store;
    while (!below->empty()) {
        const BackingStore& store = below->front();
        if (!store.type) {
            out.complete = true;
            break;
        }
        if (!store.source) refuse(disk, "a <backingStore> has no <source>");
        if (out.levels.size() > most_written) refuse(disk, "its chain is deeper than 200");
        out.levels.push_back(level_of(store));
        below = &store.backing_store;
    }
    return out;
}

bool is_local(const ImageLevel& level) {
    return !level.source || level.type == StorageType::file || level.type == StorageType::block;
}

bool is_unread(const ImageLevel& level) {
    return level.source && has_backing(level.format) && (!is_local(level) || !level.source->slices.empty());
}

std::string path_of(const ImageLevel& level) {
    if (!level.source) return {};
    if (level.type == StorageType::dir) return level.source->dir;
    if (level.type == StorageType::vhostvdpa) return level.source->dev;
    return level.type == StorageType::block ? level.source->dev : level.source->file;
}

bool is_luks(const ImageLevel& level) {
    return level.encryption && level.encryption->engine != "librbd" && level.format != "qcow2";
}

std::string level_key(const Disk& disk, std::size_t level) {
    return level ? fmt::format("disk:{}/{}", disk.target.dev, level) : "disk:" + disk.target.dev;
}

void check_sources(const Disk& disk) {
    if (disk.type == StorageType::vhostuser) {
        if (disk.target.bus != "virtio") refuse(disk, "a disk of type 'vhostuser' is on the bus 'virtio'");
        if (disk.encryption || disk.iotune || disk.transient || !disk.throttle_filters.empty())
            refuse(disk,
                   "of a disk of type 'vhostuser' QEMU sees no data: encryption, limits and transience are its "
                   "server's");
        return;
    }
    const auto chain = written_levels(disk);
    if (disk.transient && (disk.type != StorageType::file || disk.readonly || disk.device != DiskDevice::disk))
        refuse(disk, "only writable disks of type 'file' can be transient");
    for (std::size_t i = 0; i < chain.levels.size(); ++i) {
        const auto& level = chain.levels[i];
        if (!level.source) continue;
        check_level(disk, level);
        const bool last = i + 1 == chain.levels.size();
        if (!is_local(level) || !level.source->slices.empty()) check_unread(disk, level);
        if (!last && !has_backing(level.format))
            refuse(disk, fmt::format("an image of the format '{}' has no backing file", level.format));
    }
}

}  // namespace virtbus::qemu
