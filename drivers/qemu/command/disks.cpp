// SPDX-License-Identifier: LGPL-2.1-or-later
// Disks: block nodes for every level of a chain, limits, and the device the guest sees.
#include <fmt/format.h>

#include <set>

#include "qemu/command/families.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

struct Cache {
    std::string_view mode;
    bool write_back, direct, no_flush;
};
constexpr Cache caches[]{{"none", true, true, false},
                         {"writeback", true, false, false},
                         {"writethrough", false, false, false},
                         {"directsync", false, true, false},
                         {"unsafe", true, false, true}};

const Cache* find_cache(const Disk& disk) {
    if (!disk.driver) return nullptr;
    for (const auto& cache : caches)
        if (cache.mode == disk.driver->cache) return &cache;
    return nullptr;
}

void set_cache(Json& node, const Disk& disk) {
    if (const Cache* cache = find_cache(disk))
        node.set("cache", Json{}.set("direct", cache->direct).set("no-flush", cache->no_flush));
}

[[noreturn]] void refuse(const Disk& disk, const std::string& why) {
    throw Error{Code::unsupported_configuration, fmt::format("disk '{}': {}", disk.target.dev, why)};
}

// ---- sources on the network

Json server_of(const StorageHost& host, const char* default_port) {
    if (host.transport == "unix") return Json{}.set("type", "unix").set("path", host.socket);
    return Json{}
        .set("type", "inet")
        .set("host", host.name)
        .set("port", host.port.empty() ? default_port : host.port.c_str());
}

std::string url_of(const StorageSource& source) {
    const auto& host = source.hosts.front();
    std::string url = fmt::format("{}://{}", source.protocol,
                                  host.name.find(':') == host.name.npos ? host.name : "[" + host.name + "]");
    if (!host.port.empty()) url += ":" + host.port;
    if (!source.name.starts_with('/')) url += '/';
    url += source.name;
    return source.query.empty() ? url : url + "?" + source.query;
}

Json network_storage(const Disk& disk, const StorageSource& source) {
    if (source.auth || disk.auth)
        refuse(disk, "network disks with <auth> need stored secrets, which are not served yet");
    const std::string& protocol = source.protocol;
    if (source.hosts.empty() && protocol != "rbd")
        refuse(disk, fmt::format("a source of protocol '{}' needs a <host>", protocol));
    Json node;
    if (protocol == "nbd")
        return node.set("driver", "nbd")
            .set("server", server_of(source.hosts[0], "10809"))
            .set_text("export", source.name);
    if (protocol == "http" || protocol == "https" || protocol == "ftp" || protocol == "ftps")
        return node.set("driver", protocol).set("url", url_of(source));
    if (protocol == "ssh") {
        const auto slash = source.name.starts_with('/') ? source.name : "/" + source.name;
        node.set("driver", "ssh")
            .set("path", slash)
            .set("server", Json{}
                               .set("host", source.hosts[0].name)
                               .set("port", source.hosts[0].port.empty() ? "22" : source.hosts[0].port.c_str()));
        return node.set_text("user", source.identity_username);
    }
    if (protocol == "iscsi") {
        const auto slash = source.name.find('/');
        const auto& host = source.hosts[0];
        node.set("driver", "iscsi")
            .set("portal", fmt::format("{}:{}", host.name, host.port.empty() ? "3260" : host.port));
        node.set("target", source.name.substr(0, slash))
            .set("lun", slash == std::string::npos ? 0 : std::atoi(source.name.c_str() + slash + 1));
        return node.set("transport", "tcp").set_text("initiator-name", source.initiator_iqn);
    }
    if (protocol == "rbd") {
        const auto slash = source.name.find('/');
        node.set("driver", "rbd").set("pool", source.name.substr(0, slash));
        node.set("image", slash == std::string::npos ? std::string{} : source.name.substr(slash + 1));
        std::vector<Json> servers;
        for (const auto& host : source.hosts)
            servers.push_back(
                Json{}.set("host", host.name).set("port", host.port.empty() ? "6789" : host.port.c_str()));
        if (!servers.empty()) node.set("server", servers);
        return node.set_text("snapshot", source.snapshot).set_text("conf", source.config);
    }
    refuse(disk, fmt::format("sources of protocol '{}' are not supported", protocol));
}

Json nvme_storage(const Disk& disk, const StorageSource& source) {
    if (!source.address) refuse(disk, "an NVMe source needs the <address> of its controller");
    const auto& at = *source.address;
    return Json{}
        .set("driver", "nvme")
        .set("device", fmt::format("{:04x}:{:02x}:{:02x}.{:x}", at.domain, at.bus, at.slot, at.function))
        .set("namespace", source.nvme_namespace.value_or(1));
}

// ---- nodes

/// Writes the nodes of one disk and knows their names.
class Nodes {
public:
    Nodes(Argv& line, const Disk& disk, unsigned& counter) : line_{line}, disk_{disk}, counter_{counter} {}

    /// The node that the device uses; "" for an empty drive.
    std::string add() {
        const std::string key = "disk:" + disk_.target.dev;
        if (line_.runnable()) return disk_.source ? add_empty() : "";
        if (disk_.source && disk_.type == StorageType::network)
            return add_remote(network_storage(disk_, *disk_.source));
        if (disk_.source && disk_.type == StorageType::nvme) return add_remote(nvme_storage(disk_, *disk_.source));
        if (disk_.type == StorageType::volume)
            refuse(disk_, "storage pools are not served yet; name the file or block device");
        if (disk_.type == StorageType::dir || disk_.type == StorageType::vhostvdpa)
            refuse(disk_, fmt::format("sources of type '{}' are not supported", word(disk_.type)));
        if (!line_.find(key)) return "";
        std::size_t levels = 1;
        while (line_.find(fmt::format("{}/{}", key, levels))) ++levels;
        // From the bottom up: each names the one below it. The numbers go from the top down.
        const unsigned first = counter_ + 1;
        counter_ += static_cast<unsigned>(levels);
        std::string below;
        for (std::size_t level = levels; level-- > 0;)
            below = add_level(level == 0 ? key : fmt::format("{}/{}", key, level), level == 0,
                              first + static_cast<unsigned>(level), below);
        return below;
    }

private:
    std::string add_empty() {
        const std::string name = next();
        line_.blockdev(Json{}
                           .set("driver", "null-co")
                           .set("node-name", name + "-storage")
                           .set("size", 64 << 20)
                           .set("read-zeroes", true));
        line_.blockdev(Json{}
                           .set("node-name", name + "-format")
                           .set("read-only", disk_.readonly)
                           .set("driver", "raw")
                           .set("file", name + "-storage"));
        return name + "-format";
    }
    std::string add_remote(Json storage) {
        const std::string name = next();
        storage.set("node-name", name + "-storage").set("auto-read-only", true).set("discard", "unmap");
        set_cache(storage, disk_);
        line_.blockdev(storage);
        line_.out.needs_network |= disk_.type == StorageType::network;
        return add_format(name, disk_.driver ? disk_.driver->type : "raw", disk_.readonly, "", true);
    }
    std::string add_level(const std::string& key, bool top, unsigned number, const std::string& below) {
        OpenedFile& file = *line_.find(key);
        const std::string name = fmt::format("libvirt-{}", number);
        Json storage;
        const bool device = file.block_device || (line_.by_path() && top && disk_.type == StorageType::block);
        storage.set("driver", device ? "host_device" : "file");
        storage.set("filename", line_.fdset(file));
        const bool driver = disk_.driver.has_value();
        if (driver && !disk_.driver->io.empty()) storage.set("aio", disk_.driver->io);
        storage.set("node-name", name + "-storage").set("auto-read-only", true);
        storage.set("discard", driver && !disk_.driver->discard.empty() ? disk_.driver->discard : "unmap");
        set_cache(storage, disk_);
        line_.blockdev(storage);
        return add_format(name, file.format.empty() ? "raw" : file.format, file.read_only, below, top);
    }
    std::string add_format(const std::string& name, const std::string& format, bool read_only, const std::string& below,
                           bool top) {
        Json node;
        node.set("node-name", name + "-format").set("read-only", read_only);
        if (top && disk_.driver) {
            node.set_text("discard", disk_.driver->discard);
            // Zeroes may only be turned into holes where discarding is allowed.
            const bool unmap = disk_.driver->detect_zeroes == "unmap" && disk_.driver->discard != "unmap";
            node.set_text("detect-zeroes", unmap ? "on" : disk_.driver->detect_zeroes);
        }
        set_cache(node, disk_);
        if (top && format == "qcow2" && disk_.driver) node.set("cache-size", disk_.driver->metadata_cache_max_size);
        node.set("driver", format == "iso" ? "raw" : format).set("file", name + "-storage");
        const bool may_have_backing = format == "qcow2" || format == "qcow" || format == "qed" || format == "vmdk";
        if (!below.empty())
            node.set("backing", below);
        else if (may_have_backing && !line_.by_path())
            node.set_null("backing");  // else QEMU would follow whatever the image names
        line_.blockdev(node);
        return name + "-format";
    }
    std::string next() { return fmt::format("libvirt-{}", ++counter_); }

    Argv& line_;
    const Disk& disk_;
    unsigned& counter_;
};

Json limits_of(const DiskIoTune& tune) {
    struct Limit {
        const char* name;
        const std::optional<std::uint64_t>& value;
    };
    const Limit all[]{{"bps-total", tune.total_bytes_sec},
                      {"bps-read", tune.read_bytes_sec},
                      {"bps-write", tune.write_bytes_sec},
                      {"iops-total", tune.total_iops_sec},
                      {"iops-read", tune.read_iops_sec},
                      {"iops-write", tune.write_iops_sec},
                      {"bps-total-max", tune.total_bytes_sec_max},
                      {"bps-read-max", tune.read_bytes_sec_max},
                      {"bps-write-max", tune.write_bytes_sec_max},
                      {"iops-total-max", tune.total_iops_sec_max},
                      {"iops-read-max", tune.read_iops_sec_max},
                      {"iops-write-max", tune.write_iops_sec_max},
                      {"iops-size", tune.size_iops_sec},
                      {"bps-total-max-length", tune.total_bytes_sec_max_length},
                      {"bps-read-max-length", tune.read_bytes_sec_max_length},
                      {"bps-write-max-length", tune.write_bytes_sec_max_length},
                      {"iops-total-max-length", tune.total_iops_sec_max_length},
                      {"iops-read-max-length", tune.read_iops_sec_max_length},
                      {"iops-write-max-length", tune.write_iops_sec_max_length}};
    Json limits;
    for (const auto& limit : all)
        if (limit.value.value_or(0)) limits.set(limit.name, *limit.value);
    return limits;
}

/// copy-on-read and limits are filters above the format.
class Filters {
public:
    Filters(Argv& line, std::set<std::string>& groups) : line_{line}, groups_{groups} {}

    std::string add(const Disk& disk, std::string node) {
        base_ = node.substr(0, node.size() - std::string_view{"-format"}.size());
        if (disk.driver && disk.driver->copy_on_read.value_or(false)) {
            line_.blockdev(Json{}.set("driver", "copy-on-read").set("node-name", base_ + "-cor").set("file", node));
            node = base_ + "-cor";
        }
        if (disk.iotune) {
            const std::string& name = disk.iotune->group_name;
            node =
                throttle(node, name.empty() ? "throttle-" + disk.info.alias : "throttle-group-" + name, *disk.iotune);
        }
        for (const auto& filter : disk.throttle_filters)
            node = throttle(node, "throttle-group-" + filter.group, get_group(disk, filter.group));
        return node;
    }

private:
    const DiskIoTune& get_group(const Disk& disk, const std::string& name) const {
        for (const auto& group : line_.config.throttle_groups)
            if (group.limits.group_name == name) return group.limits;
        refuse(disk, fmt::format("there is no <throttlegroup> '{}'", name));
    }
    std::string throttle(const std::string& below, const std::string& group, const DiskIoTune& tune) {
        if (groups_.insert(group).second)
            line_.object(Json{}.set("qom-type", "throttle-group").set("id", group).set("limits", limits_of(tune)));
        const std::string name = fmt::format("{}-throttle{}", base_, count_ ? std::to_string(count_) : "");
        ++count_;
        line_.blockdev(
            Json{}.set("driver", "throttle").set("node-name", name).set("throttle-group", group).set("file", below));
        return name;
    }

    Argv& line_;
    std::set<std::string>& groups_;  // made already
    std::string base_;
    unsigned count_ = 0;
};

/// What would be left out silently otherwise.
void check_served(const Disk& disk) {
    const auto& source = disk.source;
    if (disk.encryption || (source && source->encryption))
        refuse(disk, "encrypted images need stored secrets, which are not served yet");
    if (source && !source->slices.empty()) refuse(disk, "slices of images are not served yet");
    if (source && source->reservations) refuse(disk, "persistent reservations are not served yet");
    if (disk.transient) refuse(disk, "transient disks are not served yet");
    if (disk.driver && !disk.driver->iothreads.empty())
        refuse(disk, "more than one iothread for a disk is not served yet");
}

// ---- devices

void set_virtio_blk(Json& device, Argv& line, const Disk& disk) {
    device.set("driver", line.virtio_driver("virtio-blk", disk.model, disk.info));
    if (!disk.driver) return;
    const auto& driver = *disk.driver;
    device.set("ioeventfd", driver.ioeventfd).set("event_idx", driver.event_idx);
    set_virtio(device, driver.virtio);
    if (driver.iothread) device.set("iothread", fmt::format("iothread{}", *driver.iothread));
    device.set("num-queues", driver.queues).set("queue-size", driver.queue_size);
}

const Controller* find_controller(const Argv& line, ControllerType type, unsigned index) {
    for (const auto& controller : line.config.devices.controllers)
        if (controller.type == type && controller.index.value_or(0) == index) return &controller;
    return nullptr;
}

void set_scsi(Json& device, Argv& line, const Disk& disk, const DriveAddress& at) {
    device.set("driver", disk.device == DiskDevice::cdrom ? "scsi-cd"
                         : disk.device == DiskDevice::lun ? "scsi-block"
                                                          : "scsi-hd");
    device.set("bus", line.bus_of(ControllerType::scsi, at.controller));
    const Controller* controller = find_controller(line, ControllerType::scsi, at.controller);
    if (controller && controller->model == "lsilogic") {
        device.set("scsi-id", at.unit);
    } else {
        device.set("channel", at.bus).set("scsi-id", at.target).set("lun", at.unit);
    }
    device.set("device_id", fmt::format("drive-{}", disk.info.alias));
}

void set_bus(Json& device, Argv& line, const Disk& disk) {
    const std::string& bus = disk.target.bus;
    const auto* at = disk.info.address_as<DriveAddress>();
    const bool cd = disk.device == DiskDevice::cdrom;
    if (bus == "virtio") return set_virtio_blk(device, line, disk);
    if (bus == "usb") {
        device.set("driver", disk.model == "usb-bot" ? "usb-bot" : "usb-storage");
        if (disk.target.removable) device.set("removable", *disk.target.removable);
        return;
    }
    if (!at) refuse(disk, fmt::format("it has no place on the bus '{}'", bus));
    if (bus == "scsi") return set_scsi(device, line, disk, *at);
    if (bus == "ide") {
        device.set("driver", cd ? "ide-cd" : "ide-hd").set("bus", fmt::format("ide.{}", at->bus)).set("unit", at->unit);
    } else if (bus == "sata") {
        const Controller* controller = find_controller(line, ControllerType::sata, at->controller);
        if (!controller) refuse(disk, fmt::format("there is no sata controller {}", at->controller));
        device.set("driver", cd ? "ide-cd" : "ide-hd")
            .set("bus", fmt::format("{}.{}", controller->info.alias, at->unit));
    } else if (bus == "fdc") {
        device.set("driver", "floppy").set("unit", at->unit);
    } else {
        refuse(disk, fmt::format("QEMU has no disks on the bus '{}'", bus));
    }
}

/// How the guest may cache; QEMU sets it on the device, the rest of the cache mode on the nodes.
void set_details(Json& device, Argv& line, const Disk& disk) {
    const bool floppy = disk.device == DiskDevice::floppy;
    if (disk.shareable) device.set("share-rw", true);
    if (disk.blockio) {
        device.set("logical_block_size", disk.blockio->logical_block_size);
        device.set("physical_block_size", disk.blockio->physical_block_size);
        device.set("discard_granularity", disk.blockio->discard_granularity);
    }
    if (!disk.wwn.empty()) device.set("wwn", std::strtoull(disk.wwn.c_str(), nullptr, 16));
    device.set("rotation_rate", disk.target.rotation_rate);
    device.set_text("vendor", disk.vendor).set_text("product", disk.product);
    if (disk.geometry && disk.target.bus == "ide") {
        device.set("cyls", disk.geometry->cyls).set("heads", disk.geometry->heads).set("secs", disk.geometry->secs);
        device.set_text("bios-chs-trans", disk.geometry->trans);
    }
    const char* kind = floppy ? "fd" : disk.device == DiskDevice::cdrom ? "cdrom" : "hd";
    const auto turn = line.boot_index(disk.info, kind);
    device.set("bootindex", turn).set_text("loadparm", disk.info.loadparm);
    if (const Cache* cache = find_cache(disk); cache && disk.device != DiskDevice::lun)
        device.set("write-cache", cache->write_back ? "on" : "off");
    device.set_text("serial", disk.serial);
    if (!disk.driver) return;
    const auto policy = [](const std::string& word) { return word == "enospace" ? std::string{"enospc"} : word; };
    device.set_text("werror", policy(disk.driver->error_policy));
    const std::string& read =
        disk.driver->rerror_policy.empty() ? disk.driver->error_policy : disk.driver->rerror_policy;
    device.set_text("rerror", policy(read == "enospace" ? "report" : read));
}

void add_vhost_user(Argv& line, const Disk& disk, std::size_t number) {
    if (line.runnable()) return;
    const std::string id = fmt::format("chr-vu-disk{}", number);
    line.arg("-chardev", KeyValues{"socket"}.add("id", id).add("path", disk.source ? disk.source->path : ""));
    Json device;
    device.set("driver", line.virtio_driver("vhost-user-blk", disk.model, disk.info)).set("chardev", id);
    device.set("bootindex", line.boot_index(disk.info, "hd"));
    line.place(device, disk.info);
    line.device(device, disk.info.alias);
}

void add_disk(Argv& line, const Disk& disk, const std::string& node) {
    Json device;
    set_bus(device, line, disk);
    if (!node.empty()) device.set("drive", node);
    line.place(device, disk.info);
    set_details(device, line, disk);
    line.device(device, disk.info.alias);
}

}  // namespace

void add_disks(Argv& line) {
    const auto& disks = line.config.devices.disks;
    unsigned counter = 0;
    std::set<std::string> groups;
    for (std::size_t i = 0; i < disks.size(); ++i) {
        check_served(disks[i]);
        if (disks[i].type == StorageType::vhostuser) {
            add_vhost_user(line, disks[i], i);
            continue;
        }
        std::string node = Nodes{line, disks[i], counter}.add();
        const bool removable = disks[i].device == DiskDevice::cdrom || disks[i].device == DiskDevice::floppy;
        const bool optional = disks[i].source && disks[i].source->startup_policy == "optional";
        if (node.empty() && !removable && optional) continue;
        if (node.empty() && !removable) refuse(disks[i], "it has no source");
        if (!node.empty()) node = Filters{line, groups}.add(disks[i], node);
        add_disk(line, disks[i], node);
    }
}

}  // namespace virtbus::qemu
