// SPDX-License-Identifier: LGPL-2.1-or-later
// Folders of the host in the guest: 9p, which QEMU serves itself, and virtiofs, with a server that runs already or one
// of ours (qemu/helpers/virtiofsd.hpp).
#include <fmt/format.h>

#include "qemu/check_disks.hpp"
#include "qemu/command/families.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const Filesystem& filesystem, const std::string& why) {
    throw Error{Code::unsupported_configuration, fmt::format("filesystem '{}': {}", filesystem.target_dir, why)};
}

/// What the server that we start cannot be told.
void require_servable(const Filesystem& filesystem) {
    if (!filesystem.source || !filesystem.source->dir.starts_with('/'))
        refuse(filesystem,
               "virtiofs needs a <source> with the absolute path of a folder (dir=), or the socket= of a "
               "virtiofsd that runs already");
    if (filesystem.readonly)
        refuse(filesystem,
               "virtiofsd cannot be told to serve a folder read-only; mount it read-only in the guest, or "
               "share a read-only mount");
    if (!filesystem.accessmode.empty() && filesystem.accessmode != "passthrough")
        refuse(filesystem,
               fmt::format("virtiofs knows the accessmode 'passthrough' only, not '{}'", filesystem.accessmode));
    if (!filesystem.idmap_uid.empty() || !filesystem.idmap_gid.empty())
        refuse(filesystem, "an <idmap> is of newer virtiofsds and not served yet");
    if (!filesystem.fmode.empty() || !filesystem.dmode.empty() || !filesystem.multidevs.empty())
        refuse(filesystem, "fmode, dmode and multidevs are of 9p");
}

void add_virtiofs(Argv& line, const Filesystem& filesystem) {
    if (!shares_memory(line.config))
        refuse(filesystem,
               "virtiofs needs memory that its server sees, too; write <memoryBacking><source type='memfd'/><access "
               "mode='shared'/></memoryBacking>, or memAccess='shared' at each NUMA cell");
    const bool served = filesystem.source && !filesystem.source->socket.empty();
    if (!served) require_servable(filesystem);
    if (line.runnable()) return;
    const std::string id = "chr-vu-" + filesystem.info.alias;
    KeyValues chardev{"socket"};
    chardev.add("id", id);
    if (OpenedFile* connected = line.find("fs:" + filesystem.info.alias); connected && !line.by_path())
        chardev.add("fd", line.give(std::move(connected->fd)));
    else
        chardev.add("path", served ? filesystem.source->socket : filesystem.info.alias + "-fs.sock");
    line.arg("-chardev", chardev);
    Json device;
    device.set("driver", line.virtio_driver("vhost-user-fs", filesystem.model, filesystem.info)).set("chardev", id);
    if (filesystem.driver) device.set("queue-size", filesystem.driver->queue);
    device.set("tag", filesystem.target_dir);
    if (filesystem.driver) set_virtio(device, filesystem.driver->virtio);
    line.place(device, filesystem.info);
    device.set("bootindex", filesystem.info.boot_order);
    line.device(device, filesystem.info.alias);
}

void add_9p(Argv& line, const Filesystem& filesystem) {
    const std::string id = "fsdev-" + filesystem.info.alias;
    KeyValues backend{line.runnable() ? "synth" : "local"};
    backend.add("id", id);
    if (!line.runnable()) {
        const std::string access = filesystem.accessmode;
        backend.add("security_model", access == "mapped" ? "mapped" : access == "squash" ? "none" : "passthrough");
        backend.add_text("multidevs", filesystem.multidevs == "default" ? "" : filesystem.multidevs);
        if (!filesystem.fmode.empty()) backend.add("fmode", filesystem.fmode);
        if (!filesystem.dmode.empty()) backend.add("dmode", filesystem.dmode);
        backend.add("path", filesystem.source ? filesystem.source->dir : "");
        if (filesystem.driver)
            backend.add_text("writeout", filesystem.driver->wrpolicy == "immediate" ? "immediate" : "");
        if (filesystem.readonly) backend.add("readonly", true);
    }
    line.arg("-fsdev", backend);
    Json device;
    device.set("driver", line.virtio_driver("virtio-9p", filesystem.model, filesystem.info));
    if (filesystem.driver) set_virtio(device, filesystem.driver->virtio);
    device.set("fsdev", id).set("mount_tag", filesystem.target_dir);
    line.place(device, filesystem.info);
    line.device(device, filesystem.info.alias);
}

}  // namespace

void add_filesystems(Argv& line) {
    for (const auto& filesystem : line.config.devices.filesystems) {
        const std::string driver = filesystem.driver ? filesystem.driver->type : "path";
        if (driver == "virtiofs")
            add_virtiofs(line, filesystem);
        else if (driver == "path" && filesystem.type == "mount")
            add_9p(line, filesystem);
        else
            refuse(filesystem, fmt::format("type '{}' with driver '{}' is not supported; use 'mount' with 'path' or "
                                           "'virtiofs'",
                                           filesystem.type, driver));
    }
}

}  // namespace virtbus::qemu
