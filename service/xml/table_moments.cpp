// SPDX-License-Identifier: LGPL-2.1-or-later
// Tables of snapshots, checkpoints and backups.
#include <algorithm>

#include "service/xml/tables.hpp"
#include "virtbus/model/moments.hpp"

namespace virtbus::xml {

namespace {

bool is_absolute(std::string_view path) {
    return path.starts_with('/');
}

/// What a source must and must not be: `type` is the disk's, absent for a file.
std::string check_source(const std::optional<StorageType>& type, const std::optional<StorageSource>& source,
                         bool network) {
    const auto kind = type.value_or(StorageType::file);
    if (kind != StorageType::file && kind != StorageType::block && !(network && kind == StorageType::network))
        return "type='" + std::string{word(kind)} + "' is not allowed; allowed: file, block" +
               (network ? ", network" : "");
    if (!source) return "";
    if (kind == StorageType::network)
        return source->protocol.empty() ? "type='network' needs attribute 'protocol' in its source" : "";
    const auto& path = kind == StorageType::file ? source->file : source->dev;
    return path.empty() || is_absolute(path) ? "" : "the path '" + path + "' is not absolute";
}

template <class Disks>
std::string check_unique(const Disks& disks) {
    std::vector<std::string_view> names;
    for (const auto& disk : disks) names.push_back(disk.name);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    return twice == names.end() ? "" : "the disk '" + std::string{*twice} + "' occurs twice";
}

// ---- snapshots

template <class Owner>
constexpr bool has_place(const Owner& owner) {
    return owner.place != SnapshotPlace::unset;
}

std::string check_snapshot_disk(const void* object) {
    const auto& disk = *static_cast<const SnapshotDisk*>(object);
    const bool elsewhere = disk.place != SnapshotPlace::unset && disk.place != SnapshotPlace::external;
    if (elsewhere && disk.source && (!disk.source->file.empty() || !disk.source->dev.empty()))
        return "snapshot='" + std::string{word(disk.place)} + "' has no <source>; only an external one has";
    return check_source(disk.type, disk.source, true);
}
constexpr Row snapshot_disk_rows[]{
    attribute<&SnapshotDisk::name>("name").required(),
    attribute<&SnapshotDisk::place>("snapshot").only_when<SnapshotDisk, has_place<SnapshotDisk>>(),
    attribute<&SnapshotDisk::type>("type"),
    element<&SnapshotDisk::driver>("driver", storage_format_table),
    element<&SnapshotDisk::source>("source", storage_source_table),
};
constinit const Table snapshot_disk_table = table<SnapshotDisk>(snapshot_disk_rows, check_snapshot_disk);
constexpr Row snapshot_disks_rows[]{element<&SnapshotConfig::disks>("disk", snapshot_disk_table)};

std::string check_memory(const void* object) {
    const auto& memory = *static_cast<const SnapshotMemory*>(object);
    if (memory.place == SnapshotPlace::manual)
        return "snapshot='manual' is not allowed for the memory; allowed: no, internal, external";
    if (memory.place == SnapshotPlace::external && memory.file.empty())
        return "snapshot='external' needs attribute 'file'";
    if (memory.file.empty()) return "";
    if (memory.place == SnapshotPlace::no || memory.place == SnapshotPlace::internal)
        return "snapshot='" + std::string{word(memory.place)} + "' has no file; only an external one has";
    return is_absolute(memory.file) ? "" : "the path '" + memory.file + "' is not absolute";
}
constexpr Row memory_rows[]{
    attribute<&SnapshotMemory::place>("snapshot").only_when<SnapshotMemory, has_place<SnapshotMemory>>(),
    attribute<&SnapshotMemory::file>("file"),
};
constinit const Table memory_table = table<SnapshotMemory>(memory_rows, check_memory);

constexpr Row snapshot_parent_rows[]{leaf<&SnapshotConfig::parent>("name")};
constexpr Row snapshot_rows[]{
    leaf<&SnapshotConfig::name>("name"),
    leaf<&SnapshotConfig::description>("description"),
    leaf<&SnapshotConfig::state>("state").one_of("running|paused|shutdown|shutoff|crashed|pmsuspended|disk-snapshot"),
    group("parent", snapshot_parent_rows),
    leaf<&SnapshotConfig::creation_time>("creationTime"),
    element<&SnapshotConfig::memory>("memory", memory_table),
    group("disks", snapshot_disks_rows),
    whole<&SnapshotConfig::domain>("domain", "domain"),
    whole<&SnapshotConfig::inactive_domain>("inactiveDomain", "domain"),
    verbatim<&SnapshotConfig::cookie>("cookie"),
    leaf<&SnapshotConfig::active>("active"),
};
std::string check_snapshot(const void* object) {
    return check_unique(static_cast<const SnapshotConfig*>(object)->disks);
}

// ---- checkpoints

std::string check_checkpoint_disk(const void* object) {
    const auto& disk = *static_cast<const CheckpointDisk*>(object);
    return disk.checkpoint == "no" && !disk.bitmap.empty() ? "checkpoint='no' has no bitmap" : "";
}
constexpr Row checkpoint_disk_rows[]{
    attribute<&CheckpointDisk::name>("name").required(),
    attribute<&CheckpointDisk::checkpoint>("checkpoint").one_of("no|bitmap"),
    attribute<&CheckpointDisk::bitmap>("bitmap"),
    attribute<&CheckpointDisk::size>("size"),
};
constinit const Table checkpoint_disk_table = table<CheckpointDisk>(checkpoint_disk_rows, check_checkpoint_disk);
constexpr Row checkpoint_disks_rows[]{element<&CheckpointConfig::disks>("disk", checkpoint_disk_table)};
constexpr Row checkpoint_parent_rows[]{leaf<&CheckpointConfig::parent>("name")};
constexpr Row checkpoint_rows[]{
    leaf<&CheckpointConfig::name>("name"),   leaf<&CheckpointConfig::description>("description"),
    group("parent", checkpoint_parent_rows), leaf<&CheckpointConfig::creation_time>("creationTime"),
    group("disks", checkpoint_disks_rows),   whole<&CheckpointConfig::domain>("domain", "domain"),
};
std::string check_checkpoint(const void* object) {
    return check_unique(static_cast<const CheckpointConfig*>(object)->disks);
}

// ---- backups

std::string check_server(const void* object) {
    const auto& server = *static_cast<const BackupServer*>(object);
    if (server.transport != "unix") return server.socket.empty() ? "" : "attribute 'socket' needs transport='unix'";
    if (server.socket.empty()) return "transport='unix' needs attribute 'socket'";
    if (!is_absolute(server.socket)) return "the path '" + server.socket + "' is not absolute";
    return server.name.empty() && server.port.empty() ? "" : "transport='unix' has neither name nor port";
}
constexpr Row server_rows[]{
    attribute<&BackupServer::transport>("transport").one_of("tcp|unix"),
    attribute<&BackupServer::name>("name"),
    attribute<&BackupServer::port>("port"),
    attribute<&BackupServer::socket>("socket"),
    attribute<&BackupServer::tls>("tls").yes_no(),
};
constinit const Table server_table = table<BackupServer>(server_rows, check_server);

std::string check_backup_disk(const void* object) {
    const auto& disk = *static_cast<const BackupDisk*>(object);
    if (disk.backupmode == "full" && !disk.incremental.empty())
        return "backupmode='full' and incremental='" + disk.incremental + "' contradict each other";
    if (auto broken = check_source(disk.type, disk.target, false); !broken.empty()) return broken;
    return check_source(disk.type, disk.scratch, false);
}
constexpr Row backup_disk_rows[]{
    attribute<&BackupDisk::name>("name").required(),
    attribute<&BackupDisk::backup>("backup").yes_no(),
    attribute<&BackupDisk::type>("type"),
    attribute<&BackupDisk::backupmode>("backupmode").one_of("full|incremental"),
    attribute<&BackupDisk::incremental>("incremental"),
    attribute<&BackupDisk::exportname>("exportname"),
    attribute<&BackupDisk::exportbitmap>("exportbitmap"),
    attribute<&BackupDisk::index>("index"),
    element<&BackupDisk::driver>("driver", storage_format_table),
    element<&BackupDisk::target>("target", storage_source_table),
    element<&BackupDisk::scratch>("scratch", storage_source_table),
};
constinit const Table backup_disk_table = table<BackupDisk>(backup_disk_rows, check_backup_disk);
constexpr Row backup_disks_rows[]{element<&BackupConfig::disks>("disk", backup_disk_table)};
constexpr Row backup_rows[]{
    attribute<&BackupConfig::mode>("mode").one_of("push|pull"),
    leaf<&BackupConfig::incremental>("incremental"),
    element<&BackupConfig::server>("server", server_table),
    group("disks", backup_disks_rows),
};

/// A push backup writes to targets, a pull backup serves exports and keeps what changes meanwhile in scratch files.
std::string check_mode(const BackupDisk& disk, bool pull, bool since) {
    const auto of = "disk '" + disk.name + "': ";
    if (pull && disk.target) return of + "a pull backup has <scratch>, not <target>";
    if (!pull && disk.scratch) return of + "a push backup has <target>, not <scratch>";
    if (!pull && (!disk.exportname.empty() || !disk.exportbitmap.empty()))
        return of + "exportname and exportbitmap need mode='pull'";
    if (disk.backupmode == "incremental" && disk.incremental.empty() && !since)
        return of + "backupmode='incremental' needs a checkpoint, in attribute 'incremental' or in <incremental>";
    return "";
}
std::string check_backup(const void* object) {
    const auto& backup = *static_cast<const BackupConfig*>(object);
    const bool pull = backup.mode == "pull";
    if (backup.server && !pull) return "<server> needs mode='pull'";
    for (const auto& disk : backup.disks)
        if (auto broken = check_mode(disk, pull, !backup.incremental.empty()); !broken.empty()) return broken;
    return check_unique(backup.disks);
}

}  // namespace

constinit const Table snapshot_table = table<SnapshotConfig>(snapshot_rows, check_snapshot);
constinit const Table checkpoint_table = table<CheckpointConfig>(checkpoint_rows, check_checkpoint);
constinit const Table backup_table = table<BackupConfig>(backup_rows, check_backup);

}  // namespace virtbus::xml
