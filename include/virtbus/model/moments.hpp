// SPDX-License-Identifier: LGPL-2.1-or-later
// <domainsnapshot>, <domaincheckpoint> and <domainbackup> as plain values. The definitions inside stay text, whole
// <domain> elements at the left margin: they are large and seldom wanted.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "virtbus/model/storage_source.hpp"

namespace virtbus {

/// Where a snapshot puts a disk or the memory; unset: not said.
enum class SnapshotPlace { unset, no, internal, external, manual };
template <>
struct Words<SnapshotPlace> {
    static constexpr std::array<std::string_view, 5> list{"", "no", "internal", "external", "manual"};
};

struct SnapshotDisk {
    std::string name;  ///< the target ("vda"), or a path of the disk's source
    SnapshotPlace place = SnapshotPlace::unset;
    std::optional<StorageType> type;  ///< of the overlay; absent = file
    std::optional<StorageFormat> driver;
    std::optional<StorageSource> source;  ///< the overlay
    Unknown unknown;
    bool operator==(const SnapshotDisk&) const = default;
};

struct SnapshotMemory {
    SnapshotPlace place = SnapshotPlace::unset;
    std::string file;
    Unknown unknown;
    bool operator==(const SnapshotMemory&) const = default;
};

struct SnapshotConfig {
    std::string name, description;
    std::optional<std::uint64_t> creation_time;  ///< seconds since the epoch
    std::string state;                           ///< a word of State, or disk-snapshot
    std::string parent;                          ///< its name
    std::optional<SnapshotMemory> memory;
    std::vector<SnapshotDisk> disks;
    std::string domain;           ///< "" = absent
    std::string inactive_domain;  ///< the stored definition when it differed from the live one; as text a <domain> too
    std::vector<std::string> cookie;      ///< libvirt's notes to itself, kept as they are
    std::optional<std::uint32_t> active;  ///< libvirt's mark of the current one, in its own files
    Unknown unknown;
    bool operator==(const SnapshotConfig&) const = default;
};

struct CheckpointDisk {
    std::string name;
    std::string checkpoint;             ///< no, bitmap; "" = not said
    std::string bitmap;                 ///< "" = the checkpoint's name
    std::optional<std::uint64_t> size;  ///< bytes changed since; only in answers
    Unknown unknown;
    bool operator==(const CheckpointDisk&) const = default;
};

struct CheckpointConfig {
    std::string name, description;
    std::optional<std::uint64_t> creation_time;  ///< seconds since the epoch
    std::string parent;
    std::vector<CheckpointDisk> disks;
    std::string domain;  ///< "" = absent
    Unknown unknown;
    bool operator==(const CheckpointConfig&) const = default;
};

struct BackupDisk {
    std::string name;
    std::optional<bool> backup;
    std::string backupmode;   ///< full, incremental; "" = as `incremental` says
    std::string incremental;  ///< the checkpoint since which; "" = the backup's
    std::string exportname, exportbitmap;
    std::optional<std::uint32_t> index;  ///< of its job; only in answers
    std::optional<StorageType> type;
    std::optional<StorageFormat> driver;
    std::optional<StorageSource> target;   ///< push: where the bytes go
    std::optional<StorageSource> scratch;  ///< pull: what the guest overwrites meanwhile
    Unknown unknown;
    bool operator==(const BackupDisk&) const = default;
};

struct BackupServer {
    std::string transport;  ///< tcp, unix
    std::string name, port, socket;
    std::optional<bool> tls;
    Unknown unknown;
    bool operator==(const BackupServer&) const = default;
};

struct BackupConfig {
    std::string mode;         ///< push, pull; "" = push
    std::string incremental;  ///< the checkpoint since which; "" = everything
    std::optional<BackupServer> server;
    std::vector<BackupDisk> disks;
    Unknown unknown;
    bool operator==(const BackupConfig&) const = default;
};

}  // namespace virtbus
