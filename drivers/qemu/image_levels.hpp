// SPDX-License-Identifier: LGPL-2.1-or-later
// What a definition itself says of a disk's chain, level by level from the top. What images say is resources.cpp's
// work.
#pragma once

#include <string>
#include <vector>

#include "virtbus/model/disk.hpp"

namespace virtbus::qemu {

struct ImageLevel {
    StorageType type = StorageType::file;
    std::string format;
    const StorageSource* source = nullptr;  ///< null: the overlay of a transient disk
    const StorageEncryption* encryption = nullptr;
    const StorageAuth* auth = nullptr;
};
struct ImageLevels {
    std::vector<ImageLevel> levels;
    bool complete = false;  ///< ends with <backingStore/>: the images are not asked
};

/// Points into `disk`. Empty for a drive without source. UnsupportedConfiguration for what cannot be a level.
ImageLevels written_levels(const Disk& disk);

/// A file or block device of the host: the daemon opens it and reads its header.
bool is_local(const ImageLevel& level);
std::string path_of(const ImageLevel& level);
/// Its header is read by QEMU alone, and may name another image below it.
bool is_unread(const ImageLevel& level);
/// LUKS over a raw image, by QEMU's own code.
bool is_luks(const ImageLevel& level);

/// The key in OpenedResources: "disk:vda", "disk:vda/1" ...
std::string level_key(const Disk& disk, std::size_t level);

/// What QEMU cannot do with the disk's sources, or could only do wrong. UnsupportedConfiguration.
void check_sources(const Disk& disk);

}  // namespace virtbus::qemu
