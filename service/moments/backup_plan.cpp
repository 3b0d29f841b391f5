// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/backup_plan.hpp"

#include <fmt/format.h>

#include <map>
#include <set>

#include "service/moments/checkpoint_plan.hpp"

namespace virtbus {

namespace {

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::invalid_xml, why};
}

bool is_pull(const BackupConfig& wanted) {
    if (wanted.mode.empty() || wanted.mode == "push") return false;
    if (wanted.mode == "pull") return true;
    refuse(fmt::format("mode '{}' of a backup is unknown; there are push and pull", wanted.mode));
}

/// The service's default is a socket that only the caller reaches.
void settle_server(BackupConfig& config, const BackupSubject& subject, bool pull) {
    if (!pull) {
        if (config.server) refuse("a <server> belongs to a backup of mode 'pull'");
        return;
    }
    if (!config.server) {
        config.server.emplace();
        config.server->transport = "unix";
    }
    auto& server = *config.server;
    if (server.transport.empty()) server.transport = server.socket.empty() ? "tcp" : "unix";
    if (server.tls.value_or(false))
        throw Error{Code::unsupported, "backups are not served over TLS; leave 'tls' out and use a unix socket"};
    if (server.transport == "unix") {
        if (server.socket.empty()) server.socket = subject.socket;
        if (!server.socket.starts_with('/') || server.socket.ends_with('/'))
            refuse(fmt::format("the <server> needs an absolute path for its socket, not '{}'", server.socket));
        return;
    }
    if (server.transport != "tcp")
        refuse(fmt::format("transport '{}' of the <server> is unknown; there are unix and tcp", server.transport));
    if (!subject.tcp)
        throw Error{Code::unsupported, "a user's own domains serve backups on unix sockets only, not on tcp"};
    if (server.name.empty()) server.name = "localhost";
    if (server.port.empty()) server.port = "10809";
}

std::string since_of(const BackupDisk& said, const BackupConfig& config) {
    const auto& since = said.incremental.empty() ? config.incremental : said.incremental;
    if (said.backupmode == "full") {
        if (!said.incremental.empty())
            refuse(fmt::format("disk '{}': backupmode 'full' excludes 'incremental'", said.name));
        return {};
    }
    if (said.backupmode == "incremental" && since.empty())
        refuse(fmt::format("disk '{}': backupmode 'incremental' needs the checkpoint since which", said.name));
    return since;
}

/// Where the bytes go, or what the guest overwrites is kept.
ImageFile settle_file(BackupDisk& said, const Disk& disk, const BackupSubject& subject, bool pull) {
    auto& place = pull ? said.scratch : said.target;
    if (pull ? said.target.has_value() : said.scratch.has_value())
        refuse(fmt::format("disk '{}': a backup of mode '{}' has a <{}>, not a <{}>", said.name, pull ? "pull" : "push",
                           pull ? "scratch" : "target", pull ? "target" : "scratch"));
    const auto type = said.type.value_or(StorageType::file);
    if (type != StorageType::file && type != StorageType::block)
        throw Error{Code::unsupported, fmt::format("disk '{}': a backup goes to a file or a block device", said.name)};
    const bool block = type == StorageType::block;
    if (!place) {
        const auto top = top_image(disk);
        if (block || !top || top->block_device)
            refuse(fmt::format("disk '{}': no file name can be made up for its backup; name one", said.name));
        place.emplace().file = top->path + '.' + subject.suffix;
    }
    said.type = type;
    if (!said.driver) said.driver.emplace();
    if (said.driver->type.empty()) said.driver->type = "qcow2";
    ImageFile image{block ? place->dev : place->file, said.driver->type, block};
    if (!image.path.starts_with('/') || image.path.ends_with('/'))
        refuse(fmt::format("disk '{}': '{}' is no absolute path of a file", said.name, image.path));
    if (pull && image.format != "qcow2")
        throw Error{Code::unsupported_configuration,
                    fmt::format("disk '{}': a scratch image is qcow2, not {}", said.name, image.format)};
    return image;
}

BackupPart settle_disk(BackupDisk& said, const Disk& disk, const BackupPlan& plan, const BackupSubject& subject) {
    BackupPart part;
    said.name = part.disk = disk.target.dev;
    said.backup = true;
    if (!is_written_disk(disk))
        throw Error{
            Code::unsupported_configuration,
            fmt::format("disk '{}' cannot be backed up: it has no image of its own that is written to", said.name)};
    part.image = settle_file(said, disk, subject, plan.pull);
    const auto since = since_of(said, plan.config);
    said.backupmode = since.empty() ? "full" : "incremental";
    said.incremental = since;
    if (!since.empty()) part.since = bitmaps_since(subject.checkpoints, since, part.disk);
    if (!plan.pull && !since.empty() && part.image.format == "raw" && !subject.reuse_external)
        throw Error{Code::unsupported_configuration,
                    fmt::format("disk '{}': a new raw image cannot show which parts of it an incremental backup has; "
                                "use qcow2, or 'reuse-external' with an image that has the rest",
                                said.name)};
    if (!plan.pull && (!said.exportname.empty() || !said.exportbitmap.empty()))
        refuse(fmt::format("disk '{}': names of exports belong to a backup of mode 'pull'", said.name));
    if (!plan.pull) return part;
    if (said.exportname.empty()) said.exportname = said.name;
    if (since.empty() && !said.exportbitmap.empty())
        refuse(fmt::format("disk '{}': a full backup has no bitmap to export", said.name));
    if (!since.empty() && said.exportbitmap.empty()) said.exportbitmap = "backup-" + said.name;
    part.export_name = said.exportname;
    part.export_bitmap = said.exportbitmap;
    return part;
}

void require_apart(const std::vector<BackupPart>& parts, const DomainConfig& config) {
    std::set<std::string> paths, exports;
    for (const auto& disk : config.devices.disks)
        for (const auto& image : written_images(disk)) paths.insert(image.path);
    for (const auto& part : parts) {
        if (!paths.insert(part.image.path).second)
            refuse(fmt::format("'{}' is used twice; each disk's backup needs a file of its own", part.image.path));
        if (!part.export_name.empty() && !exports.insert(part.export_name).second)
            refuse(fmt::format("the export '{}' is named twice", part.export_name));
    }
}

}  // namespace

BackupPlan plan_backup(const BackupConfig& wanted, const BackupSubject& subject) {
    BackupPlan plan;
    plan.pull = is_pull(wanted);
    plan.config = wanted;
    plan.config.mode = plan.pull ? "pull" : "push";
    plan.config.disks.clear();
    settle_server(plan.config, subject, plan.pull);
    std::map<std::string, BackupDisk> said;
    for (const auto& disk : wanted.disks) {
        const auto* found = find_disk(subject.config, disk.name);
        if (!found) refuse(fmt::format("domain '{}' has no disk '{}'", subject.name, disk.name));
        if (!said.emplace(found->target.dev, disk).second)
            refuse(fmt::format("disk '{}' is named twice", found->target.dev));
    }
    for (const auto& disk : subject.config.devices.disks) {
        const auto found = said.find(disk.target.dev);
        const bool named = found != said.end();
        const bool taken = named ? found->second.backup.value_or(true) : wanted.disks.empty() && is_written_disk(disk);
        BackupDisk line;
        if (named && taken) line = found->second;
        line.name = disk.target.dev;
        line.backup = taken;
        if (taken) plan.parts.push_back(settle_disk(line, disk, plan, subject));
        plan.config.disks.push_back(std::move(line));
    }
    if (plan.parts.empty())
        throw Error{Code::unsupported_configuration, fmt::format("domain '{}' has no disk to back up", subject.name)};
    require_apart(plan.parts, subject.config);
    return plan;
}

}  // namespace virtbus
