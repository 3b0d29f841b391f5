// SPDX-License-Identifier: LGPL-2.1-or-later
// <filesystem>: host folders shared with the guest (9p, virtiofs).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/device_info.hpp"

namespace virtbus {

struct FilesystemDriver {
    std::string type;  ///< path, handle, loop, nbd, ploop, virtiofs, mtp
    std::string format, name;
    std::string wrpolicy;
    std::optional<std::uint32_t> queue;
    VirtioOptions virtio;
    Unknown unknown;
    bool operator==(const FilesystemDriver&) const = default;
};

struct FilesystemBinary {
    std::string path;
    std::optional<bool> xattr;
    std::string cache_mode, sandbox_mode;
    std::optional<bool> lock_posix, lock_flock;
    std::optional<std::int32_t> thread_pool_size;
    std::optional<std::uint32_t> openfiles_max;
    Unknown unknown;
    bool operator==(const FilesystemBinary&) const = default;
};

struct IdRange {
    std::uint32_t start = 0, target = 0, count = 0;
    Unknown unknown;
    bool operator==(const IdRange&) const = default;
};

struct FilesystemSource {
    std::string dir, file, dev, name, socket, pool, volume;
    std::optional<std::uint64_t> usage;
    std::string units;
    Unknown unknown;
    bool operator==(const FilesystemSource&) const = default;
};

struct Filesystem {
    std::string type = "mount";  ///< mount, block, file, template, ram, bind, volume
    std::string accessmode;      ///< passthrough, mapped, squash
    std::string model;           ///< virtio, virtio-transitional, virtio-non-transitional
    std::string multidevs;       ///< default, remap, forbid, warn
    std::string fmode, dmode;    ///< octal
    std::optional<FilesystemDriver> driver;
    std::optional<FilesystemBinary> binary;
    std::vector<IdRange> idmap_uid, idmap_gid;
    std::optional<FilesystemSource> source;
    std::string target_dir;
    bool readonly = false;
    std::optional<std::uint64_t> space_hard_limit, space_soft_limit;  ///< bytes
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Filesystem&) const = default;
};

}  // namespace virtbus
