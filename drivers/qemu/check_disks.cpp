// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/check_disks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "virtbus/error.hpp"
#include "virtbus/model/iothreads.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const Disk& disk, const std::string& why) {
    throw Error{Code::unsupported_configuration, fmt::format("disk '{}': {}", disk.target.dev, why)};
}

/// A word that only disks on some buses take.
struct OnlyOn {
    std::string_view word;
    std::string_view buses;  ///< with a bar around each
    bool (*said)(const Disk&);
};
constexpr std::array only_on{
    OnlyOn{"vendor", "|scsi|", [](const Disk& d) { return !d.vendor.empty(); }},
    OnlyOn{"product", "|scsi|ide|sata|", [](const Disk& d) { return !d.product.empty(); }},
    OnlyOn{"wwn", "|scsi|ide|sata|", [](const Disk& d) { return !d.wwn.empty(); }},
    OnlyOn{"target removable", "|usb|scsi|", [](const Disk& d) { return d.target.removable.has_value(); }},
    OnlyOn{"target rotation_rate", "|scsi|ide|sata|", [](const Disk& d) { return d.target.rotation_rate.has_value(); }},
    OnlyOn{"target dpofua", "|scsi|", [](const Disk& d) { return d.target.dpofua.has_value(); }},
    OnlyOn{"geometry", "|scsi|ide|sata|virtio|", [](const Disk& d) { return d.geometry.has_value(); }},
    OnlyOn{"driver iothread", "|virtio|", [](const Disk& d) { return d.driver && d.driver->iothread; }},
    OnlyOn{"driver iothreads", "|virtio|", [](const Disk& d) { return d.driver && !d.driver->iothreads.empty(); }},
    OnlyOn{"driver queues", "|virtio|", [](const Disk& d) { return d.driver && d.driver->queues; }},
    OnlyOn{"driver queue_size", "|virtio|", [](const Disk& d) { return d.driver && d.driver->queue_size; }},
    OnlyOn{"driver event_idx", "|virtio|", [](const Disk& d) { return d.driver && d.driver->event_idx; }},
    OnlyOn{"driver ioeventfd", "|virtio|", [](const Disk& d) { return d.driver && d.driver->ioeventfd; }},
    OnlyOn{"device='lun'", "|scsi|", [](const Disk& d) { return d.device == DiskDevice::lun; }},
};

void check_bus(const Disk& disk) {
    const std::string key = "|" + disk.target.bus + "|";
    for (const auto& [word, buses, said] : only_on) {
        if (!said(disk) || buses.find(key) != buses.npos) continue;
        std::string list{buses.substr(1, buses.size() - 2)};
        std::ranges::replace(list, '|', ' ');
        refuse(disk, fmt::format("'{}' is for disks on the bus {}, not on '{}'", word, list, disk.target.bus));
    }
}

void check_iothreads(const Disk& disk, const DomainConfig& config, const Capabilities& known) {
    const auto& driver = *disk.driver;
    if (driver.iothreads.empty()) return;
    if (known.version < 9000000)
        refuse(disk, fmt::format("more than one iothread for a disk needs QEMU 9.0; {} is older", known.binary));
    if (driver.iothread) refuse(disk, "it has both an iothread and a list of iothreads");
    for (const auto& thread : driver.iothreads)
        if (!has_iothread(config, thread.id))
            refuse(disk, fmt::format("there is no iothread {}; <iothreads> or <iothreadids> make them", thread.id));
}

void check_driver(const Disk& disk, const DomainConfig& config, const Capabilities& known) {
    if (!disk.driver) return;
    const auto& driver = *disk.driver;
    if (!driver.name.empty() && driver.name != "qemu")
        refuse(disk, fmt::format("its driver is 'qemu', not '{}'", driver.name));
    check_iothreads(disk, config, known);
    if (!driver.statistics.empty()) refuse(disk, "statistics over intervals are not kept");
    const bool no_unref = driver.discard_no_unref.value_or(false);
    if (no_unref && known.version < 8001000)
        refuse(disk, fmt::format("discard_no_unref needs QEMU 8.1; {} is older", known.binary));
    if (no_unref && driver.type != "qcow2") refuse(disk, "discard_no_unref is for images of the format 'qcow2'");
    if (driver.io == "native" && driver.cache != "none" && driver.cache != "directsync")
        refuse(disk, "io='native' needs cache='none' or cache='directsync'");
    if (driver.copy_on_read.value_or(false) && disk.readonly)
        refuse(disk, "a disk that is only read cannot copy on read");
    if (driver.iothread && !has_iothread(config, *driver.iothread))
        refuse(disk, fmt::format("there is no iothread {}; <iothreads> or <iothreadids> make them", *driver.iothread));
    const bool qcow2 = driver.type == "qcow2";
    if (driver.metadata_cache_max_size && !qcow2) refuse(disk, "only qcow2 images have a metadata cache");
}

void check_limits(const Disk& disk) {
    if (!disk.iotune) return;
    const auto& tune = *disk.iotune;
    struct Pair {
        const char* name;
        const std::optional<std::uint64_t>&limit, &burst, &length;
    };
    const Pair pairs[]{
        {"total_bytes_sec", tune.total_bytes_sec, tune.total_bytes_sec_max, tune.total_bytes_sec_max_length},
        {"read_bytes_sec", tune.read_bytes_sec, tune.read_bytes_sec_max, tune.read_bytes_sec_max_length},
        {"write_bytes_sec", tune.write_bytes_sec, tune.write_bytes_sec_max, tune.write_bytes_sec_max_length},
        {"total_iops_sec", tune.total_iops_sec, tune.total_iops_sec_max, tune.total_iops_sec_max_length},
        {"read_iops_sec", tune.read_iops_sec, tune.read_iops_sec_max, tune.read_iops_sec_max_length},
        {"write_iops_sec", tune.write_iops_sec, tune.write_iops_sec_max, tune.write_iops_sec_max_length}};
    for (const auto& [name, limit, burst, length] : pairs) {
        if (burst.value_or(0) && !limit.value_or(0)) refuse(disk, fmt::format("{}_max needs {}", name, name));
        if (burst.value_or(0) && *burst < *limit) refuse(disk, fmt::format("{}_max is below {}", name, name));
        if (length.value_or(0) && !burst.value_or(0))
            refuse(disk, fmt::format("{}_max_length needs {}_max", name, name));
    }
}

}  // namespace

bool shares_memory(const DomainConfig& config) {
    const bool all = config.memory_backing && config.memory_backing->access_mode == "shared";
    if (!config.cpu || !config.cpu->numa || config.cpu->numa->cells.empty()) return all;
    return std::ranges::all_of(config.cpu->numa->cells,
                               [&](auto& cell) { return cell.mem_access.empty() ? all : cell.mem_access == "shared"; });
}

void check_disk(const Disk& disk, const DomainConfig& config, const Capabilities& known) {
    check_bus(disk);
    check_driver(disk, config, known);
    check_limits(disk);
    if (disk.type == StorageType::vhostuser && !shares_memory(config))
        refuse(disk, "type='vhostuser' needs <memoryBacking><access mode='shared'/>");
    if (disk.rawio.value_or(false)) refuse(disk, "rawio='yes' needs a capability that guests are not given");
    if (disk.sgio == "unfiltered") refuse(disk, "sgio='unfiltered' is no longer offered by kernels");
    const bool ata = disk.target.bus == "ide" || disk.target.bus == "sata";
    if (disk.readonly && ata && disk.device == DiskDevice::disk)
        refuse(disk,
               fmt::format("a hard disk on the bus '{}' cannot be read-only; 'virtio', 'scsi' and 'usb' disks can",
                           disk.target.bus));
    if (!disk.backenddomain.empty()) refuse(disk, "a backenddomain is Xen's");
    if (!disk.wwn.empty() &&
        (disk.wwn.size() != 16 || disk.wwn.find_first_not_of("0123456789abcdefABCDEF") != disk.wwn.npos))
        refuse(disk, fmt::format("its wwn '{}' is not of 16 hexadecimal digits", disk.wwn));
    const std::string format = disk.driver ? disk.driver->type : "";
    if (disk.shareable && !disk.readonly && !format.empty() && format != "raw")
        refuse(disk, fmt::format("it is shareable, but an image of the format '{}' has one writer; 'raw' may have more",
                                 format));
    const bool removable = disk.device == DiskDevice::cdrom || disk.device == DiskDevice::floppy;
    const bool policy = disk.source && !disk.source->startup_policy.empty();
    const bool local = disk.type == StorageType::file || disk.type == StorageType::block;
    if (policy && !removable && !local)
        refuse(disk, "startupPolicy is for removable media and disks of type 'file' or 'block'");
    if (disk.model == "usb-storage" && disk.device == DiskDevice::cdrom)
        refuse(disk, "a CD-ROM on the bus 'usb' is of the model 'usb-bot'");
    const bool usb_model = disk.model.starts_with("usb-");
    if (!disk.model.empty() && usb_model != (disk.target.bus == "usb"))
        refuse(disk, fmt::format("there is no model '{}' on the bus '{}'", disk.model, disk.target.bus));
}

}  // namespace virtbus::qemu
