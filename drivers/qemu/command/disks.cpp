// SPDX-License-Identifier: LGPL-2.1-or-later
// Disks: the device the guest sees.
#include <fmt/format.h>

#include "qemu/check_disks.hpp"
#include "qemu/command/disk_nodes.hpp"
#include "qemu/command/families.hpp"
#include "qemu/image_levels.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const Disk& disk, const std::string& why) {
    throw Error{Code::unsupported_configuration, fmt::format("disk '{}': {}", disk.target.dev, why)};
}

struct Policy {
    std::string write, read;
};

/// What the guest is not told of an error; "" = QEMU's own.
Policy policy_of(const Disk& disk) {
    if (!disk.driver) return {};
    const auto& driver = *disk.driver;
    Policy out{driver.error_policy == "enospace" ? "enospc" : driver.error_policy, driver.rerror_policy};
    if (out.read.empty()) out.read = driver.error_policy == "enospace" ? "report" : driver.error_policy;
    return out;
}

// ---- devices

void set_virtio_blk(Json& device, Argv& line, const Disk& disk) {
    device.set("driver", line.virtio_driver("virtio-blk", disk.model, disk.info));
    if (!disk.driver) return;
    const auto& driver = *disk.driver;
    device.set("ioeventfd", driver.ioeventfd).set("event_idx", driver.event_idx);
    set_virtio(device, driver.virtio);
    if (driver.iothread) device.set("iothread", fmt::format("iothread{}", *driver.iothread));
    std::vector<Json> mapping;
    for (const auto& thread : driver.iothreads) {
        std::vector<unsigned> queues;
        for (const auto& queue : thread.queues) queues.push_back(queue.id);
        mapping.push_back(Json{}.set("iothread", fmt::format("iothread{}", thread.id)));
        if (!queues.empty()) mapping.back().set("vqs", queues);
    }
    if (!mapping.empty()) device.set("iothread-vq-mapping", mapping);
    device.set("num-queues", driver.queues).set("queue-size", driver.queue_size);
}

const Controller* find_controller(const Argv& line, ControllerType type, unsigned index) {
    for (const auto& controller : line.config.devices.controllers)
        if (controller.type == type && controller.index.value_or(0) == index) return &controller;
    return nullptr;
}

void set_scsi(Json& device, Argv& line, const Disk& disk, const DriveAddress& at) {
    const bool lun = disk.device == DiskDevice::lun && !line.runnable();
    device.set("driver", disk.device == DiskDevice::cdrom ? "scsi-cd" : lun ? "scsi-block" : "scsi-hd");
    line.place_scsi(device, at);
    if (!lun) device.set("device_id", disk.serial.empty() ? "drive-" + disk.info.alias : disk.serial);
    if (disk.device == DiskDevice::disk) {
        device.set("removable", disk.target.removable).set("dpofua", disk.target.dpofua);
        device.set_text("vendor", disk.vendor).set_text("product", disk.product);
    }
}

void set_ide(Json& device, const Disk& disk, const std::string& bus) {
    device.set("driver", disk.device == DiskDevice::cdrom ? "ide-cd" : "ide-hd").set("bus", bus);
    device.set_text("model", disk.product);
}

void set_bus(Json& device, Argv& line, const Disk& disk) {
    const std::string& bus = disk.target.bus;
    const auto* at = disk.info.address_as<DriveAddress>();
    if (bus == "virtio") return set_virtio_blk(device, line, disk);
    if (bus == "usb") {
        device.set("driver", "usb-storage").set("removable", disk.target.removable);
        return;
    }
    if (bus == "xen" || bus == "sd" || bus == "uml") refuse(disk, fmt::format("QEMU's machines have no bus '{}'", bus));
    if (!at) refuse(disk, fmt::format("it has no place on the bus '{}'", bus));
    if (bus == "scsi") return set_scsi(device, line, disk, *at);
    if (bus == "ide") {
        set_ide(device, disk, fmt::format("ide.{}", at->bus));
        device.set("unit", at->unit);
    } else if (bus == "sata") {
        const Controller* controller = find_controller(line, ControllerType::sata, at->controller);
        if (!controller) refuse(disk, fmt::format("there is no sata controller {}", at->controller));
        set_ide(device, disk, fmt::format("{}.{}", controller->info.alias, at->unit));
    } else if (bus == "fdc") {
        device.set("driver", "floppy").set("unit", at->unit);
    } else if (bus == "nvme") {
        const Controller* controller = find_controller(line, ControllerType::nvme, at->controller);
        if (!controller) refuse(disk, fmt::format("there is no nvme controller {}", at->controller));
        device.set("driver", "nvme-ns").set("bus", controller->info.alias).set("nsid", at->unit + 1);
    } else {
        refuse(disk, fmt::format("QEMU has no disks on the bus '{}'", bus));
    }
}

/// Which of the shared words the device knows.
struct Knows {
    bool blockio, geometry, wwn, rotation, serial, write_cache, policy;
};
Knows knows_of(const Disk& disk) {
    const std::string& bus = disk.target.bus;
    const bool ide = bus == "ide" || bus == "sata", scsi = bus == "scsi", lun = disk.device == DiskDevice::lun;
    const bool cdrom = disk.device == DiskDevice::cdrom, plain = disk.device == DiskDevice::disk;
    return {.blockio = !lun,
            .geometry = plain && (ide || scsi || bus == "virtio"),
            .wwn = (ide || scsi) && !lun,
            .rotation = (ide || scsi) && !cdrom,
            .serial = !lun && bus != "fdc" && bus != "nvme",
            .write_cache = !lun,
            .policy = bus != "fdc" && bus != "nvme"};
}

/// How the guest may cache; QEMU sets it on the device, the rest of the cache mode on the nodes.
void set_details(Json& device, const Disk& disk) {
    const Knows knows = knows_of(disk);
    if (disk.shareable) device.set("share-rw", true);
    if (disk.blockio && knows.blockio) {
        device.set("logical_block_size", disk.blockio->logical_block_size);
        device.set("physical_block_size", disk.blockio->physical_block_size);
        device.set("discard_granularity", disk.blockio->discard_granularity);
    }
    if (knows.wwn && !disk.wwn.empty()) device.set("wwn", std::strtoull(disk.wwn.c_str(), nullptr, 16));
    if (knows.rotation) device.set("rotation_rate", disk.target.rotation_rate);
    if (disk.geometry && knows.geometry) {
        device.set("cyls", disk.geometry->cyls).set("heads", disk.geometry->heads).set("secs", disk.geometry->secs);
        if (disk.target.bus == "ide" || disk.target.bus == "sata")
            device.set_text("bios-chs-trans", disk.geometry->trans);
    }
    if (const Cache* cache = find_cache(disk); cache && knows.write_cache)
        device.set("write-cache", cache->write_back ? "on" : "off");
    if (knows.serial) device.set_text("serial", disk.serial);
    if (!knows.policy) return;
    const Policy policy = policy_of(disk);
    device.set_text("werror", policy.write).set_text("rerror", policy.read);
}

void add_vhost_user(Argv& line, const Disk& disk) {
    if (line.runnable()) return;
    const std::string id = "chr-vu-" + disk.info.alias;
    const auto& source = *disk.source;
    KeyValues chardev{"socket"};
    chardev.add("id", id);
    if (OpenedFile* connected = line.find(level_key(disk, 0) + ":socket"); connected && !line.by_path()) {
        chardev.add("fd", line.give(std::move(connected->fd)));
    } else {
        chardev.add("path", source.path);
        if (source.reconnect && source.reconnect->enabled.value_or(false))
            chardev.add("reconnect", source.reconnect->timeout.value_or(1));
    }
    line.arg("-chardev", chardev);
    Json device;
    device.set("driver", line.virtio_driver("vhost-user-blk", disk.model, disk.info)).set("chardev", id);
    if (disk.driver) {
        device.set("num-queues", disk.driver->queues).set("queue-size", disk.driver->queue_size);
        device.set("event_idx", disk.driver->event_idx);
        set_virtio(device, disk.driver->virtio);
    }
    device.set("bootindex", line.boot_index(disk.info, "hd"));
    line.place(device, disk.info);
    line.device(device, disk.info.alias);
}

/// A bridge to a SCSI bus of its own, and the disk or CD-ROM on it.
void add_usb_bot(Argv& line, const Disk& disk, const std::string& node) {
    Json bridge;
    line.place(bridge.set("driver", "usb-bot"), disk.info);
    line.device(bridge, disk.info.alias);
    Json device;
    const bool cdrom = disk.device == DiskDevice::cdrom;
    device.set("driver", cdrom ? "scsi-cd" : "scsi-hd").set("bus", disk.info.alias + ".0").set("lun", 0);
    device.set_text("drive", node).set("id", disk.info.alias + "-device");
    device.set("bootindex", line.boot_index(disk.info, cdrom ? "cdrom" : "hd"));
    if (!cdrom) device.set("removable", disk.target.removable);
    set_details(device, disk);
    line.device(device, disk.info.alias + "-device");
}

/// A floppy's place in the boot order is its controller's to tell.
void add_floppy_turn(Argv& line, const DriveAddress& at, std::optional<unsigned> turn) {
    if (turn) line.arg("-global", fmt::format("isa-fdc.bootindex{}={}", at.unit == 0 ? 'A' : 'B', *turn));
}

void add_disk(Argv& line, const Disk& disk, const std::string& node) {
    if (disk.target.bus == "usb" && disk.model == "usb-bot") return add_usb_bot(line, disk, node);
    Json device;
    set_bus(device, line, disk);
    device.set_text("drive", node);
    line.place(device, disk.info);
    const char* kind = disk.device == DiskDevice::floppy ? "fd" : disk.device == DiskDevice::cdrom ? "cdrom" : "hd";
    const auto turn = line.boot_index(disk.info, kind);
    if (disk.target.bus == "fdc")
        add_floppy_turn(line, *disk.info.address_as<DriveAddress>(), turn);
    else
        device.set("bootindex", turn);
    set_details(device, disk);
    line.device(device, disk.info.alias);
}

}  // namespace

void add_disks(Argv& line) {
    const auto& disks = line.config.devices.disks;
    DiskNodes nodes{line};
    for (const auto& disk : disks) {
        check_disk(disk, line.config, line.capabilities);
        check_sources(disk);
        if (disk.type == StorageType::vhostuser) {
            add_vhost_user(line, disk);
            continue;
        }
        const std::string node = nodes.add(disk);
        const bool removable = disk.device == DiskDevice::cdrom || disk.device == DiskDevice::floppy;
        const bool optional = disk.source && disk.source->startup_policy == "optional";
        if (node.empty() && !removable && optional) continue;
        if (node.empty() && !removable) refuse(disk, "it has no source");
        if (node.empty() && disk.target.bus == "usb" && disk.model != "usb-bot")
            refuse(disk, "QEMU's usb-storage needs a medium; model='usb-bot' is a drive that may be empty");
        add_disk(line, disk, node);
    }
}

}  // namespace virtbus::qemu
