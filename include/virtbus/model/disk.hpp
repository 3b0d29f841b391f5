// SPDX-License-Identifier: LGPL-2.1-or-later
// <disk>: block devices of the guest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/device_info.hpp"
#include "virtbus/model/storage_source.hpp"

namespace virtbus {

enum class DiskDevice { disk, cdrom, floppy, lun };
template <>
struct Words<DiskDevice> {
    static constexpr std::array<std::string_view, 4> list{"disk", "cdrom", "floppy", "lun"};
};

struct DiskIothreadQueue {
    std::uint32_t id = 0;
    Unknown unknown;
    bool operator==(const DiskIothreadQueue&) const = default;
};

struct DiskIothread {
    std::uint32_t id = 0;
    std::vector<DiskIothreadQueue> queues;
    Unknown unknown;
    bool operator==(const DiskIothread&) const = default;
};

struct DiskDriver {
    std::string name;  ///< "qemu"
    std::string type;  ///< image format: raw, qcow2, vmdk, ...
    std::string cache, error_policy, rerror_policy, io;
    std::optional<bool> ioeventfd, event_idx, copy_on_read;
    std::string discard;
    std::optional<std::uint32_t> iothread;
    std::string detect_zeroes;
    std::optional<bool> discard_no_unref;
    std::optional<std::uint32_t> queues, queue_size;
    VirtioOptions virtio;
    std::vector<DiskIothread> iothreads;
    std::vector<std::uint32_t> statistics;  ///< intervals in seconds
    std::optional<std::uint64_t> metadata_cache_max_size;
    Unknown unknown;
    bool operator==(const DiskDriver&) const = default;
};

struct DiskTarget {
    std::string dev;   ///< vda, sdb, hdc ...
    std::string bus;   ///< ide, fdc, scsi, virtio, usb, sata, sd, nvme; "" = derived from `dev` by the driver
    std::string tray;  ///< open, closed
    std::optional<bool> removable;
    std::optional<std::uint32_t> rotation_rate;
    std::optional<bool> dpofua;
    Unknown unknown;
    bool operator==(const DiskTarget&) const = default;
};

/// Limits, zero or absent = none.
struct DiskIoTune {
    std::optional<std::uint64_t> total_bytes_sec, read_bytes_sec, write_bytes_sec;
    std::optional<std::uint64_t> total_iops_sec, read_iops_sec, write_iops_sec;
    std::optional<std::uint64_t> total_bytes_sec_max, read_bytes_sec_max, write_bytes_sec_max;
    std::optional<std::uint64_t> total_iops_sec_max, read_iops_sec_max, write_iops_sec_max;
    std::optional<std::uint64_t> size_iops_sec;
    std::string group_name;
    std::optional<std::uint64_t> total_bytes_sec_max_length, read_bytes_sec_max_length, write_bytes_sec_max_length;
    std::optional<std::uint64_t> total_iops_sec_max_length, read_iops_sec_max_length, write_iops_sec_max_length;
    Unknown unknown;
    bool operator==(const DiskIoTune&) const = default;
};

struct ThrottleFilter {
    std::string group;
    Unknown unknown;
    bool operator==(const ThrottleFilter&) const = default;
};

struct DiskGeometry {
    std::uint32_t cyls = 0, heads = 0, secs = 0;
    std::string trans;  ///< auto, none, lba
    Unknown unknown;
    bool operator==(const DiskGeometry&) const = default;
};

struct DiskBlockIo {
    std::optional<std::uint32_t> logical_block_size, physical_block_size, discard_granularity;
    Unknown unknown;
    bool operator==(const DiskBlockIo&) const = default;
};

/// The target of a running copy or commit job; only in live definitions.
struct DiskMirror {
    std::optional<StorageType> type;
    std::string file, format_attribute;  ///< the old spelling of a file mirror, written beside the new one
    std::string job;                     ///< copy, active-commit
    std::string ready;                   ///< yes, abort, pivot
    std::optional<StorageFormat> format;
    std::optional<StorageSource> source;
    std::vector<BackingStore> backing_store;
    Unknown unknown;
    bool operator==(const DiskMirror&) const = default;
};

struct Transient {
    std::optional<bool> share_backing;
    Unknown unknown;
    bool operator==(const Transient&) const = default;
};

struct Disk {
    StorageType type = StorageType::file;
    DiskDevice device = DiskDevice::disk;
    std::string model;  ///< virtio, virtio-transitional, virtio-non-transitional, usb-storage, usb-bot
    std::optional<bool> rawio;
    std::string sgio;      ///< filtered, unfiltered
    std::string snapshot;  ///< no, internal, external, manual; "" = default
    std::optional<DiskDriver> driver;
    std::optional<StorageAuth> auth;          ///< old place; newer definitions have it in `source`
    std::optional<StorageSource> source;      ///< absent: an empty drive
    std::vector<BackingStore> backing_store;  ///< at most one; empty = detect
    std::string backenddomain;
    std::optional<DiskGeometry> geometry;
    std::optional<DiskBlockIo> blockio;
    std::optional<DiskMirror> mirror;
    DiskTarget target;
    std::optional<DiskIoTune> iotune;
    std::vector<ThrottleFilter> throttle_filters;
    bool readonly = false, shareable = false;
    std::optional<Transient> transient;
    std::string serial, wwn, vendor, product;
    std::optional<StorageEncryption> encryption;  ///< old place; newer definitions have it in `source`
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Disk&) const = default;
};

}  // namespace virtbus
