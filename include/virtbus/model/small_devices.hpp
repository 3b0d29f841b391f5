// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices of a few words each: watchdog, panic, hub, nvram, vsock, iommu, shmem, lease, crypto, pstore.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "virtbus/model/device_info.hpp"

namespace virtbus {

struct Watchdog {
    std::string model;   ///< i6300esb, ib700, diag288, itco
    std::string action;  ///< reset, shutdown, poweroff, pause, none, dump, inject-nmi; "" = reset
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Watchdog&) const = default;
};

struct Panic {
    std::string model;  ///< isa, hyperv, pseries, s390, pvpanic; "" = default
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Panic&) const = default;
};

struct Hub {
    std::string type = "usb";
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Hub&) const = default;
};

struct NvramDevice {
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const NvramDevice&) const = default;
};

struct VsockCid {
    std::optional<bool> automatic;
    std::optional<std::uint32_t> address;
    Unknown unknown;
    bool operator==(const VsockCid&) const = default;
};

struct Vsock {
    std::string model;  ///< virtio, virtio-transitional, virtio-non-transitional
    std::optional<VsockCid> cid;
    std::optional<VirtioDriver> driver;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Vsock&) const = default;
};

struct IommuDriver {
    std::optional<bool> intremap, caching_mode, eim, iotlb;
    std::optional<std::uint32_t> aw_bits;
    std::optional<bool> dma_translation, xtsup, passthrough;
    std::string granule;
    Unknown unknown;
    bool operator==(const IommuDriver&) const = default;
};

struct Iommu {
    std::string model;  ///< intel, smmuv3, virtio, amd
    std::optional<IommuDriver> driver;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Iommu&) const = default;
};

struct ShmemServer {
    std::string path;
    Unknown unknown;
    bool operator==(const ShmemServer&) const = default;
};

struct ShmemMsi {
    std::optional<std::uint32_t> vectors;
    std::optional<bool> ioeventfd;
    Unknown unknown;
    bool operator==(const ShmemMsi&) const = default;
};

struct Shmem {
    std::string name;
    std::string role;                   ///< master, peer
    std::string model;                  ///< ivshmem, ivshmem-plain, ivshmem-doorbell
    std::optional<std::uint64_t> size;  ///< bytes
    std::optional<ShmemServer> server;
    std::optional<ShmemMsi> msi;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Shmem&) const = default;
};

struct Lease {
    std::string lockspace, key, target_path;
    std::optional<std::uint64_t> target_offset;
    Unknown unknown;
    bool operator==(const Lease&) const = default;
};

struct CryptoBackend {
    std::string model = "builtin";  ///< builtin, lkcf
    std::optional<std::uint32_t> queues;
    Unknown unknown;
    bool operator==(const CryptoBackend&) const = default;
};

struct Crypto {
    std::string model = "virtio";
    std::string type = "qemu";
    std::optional<VirtioDriver> driver;
    CryptoBackend backend;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Crypto&) const = default;
};

struct Pstore {
    std::string backend = "acpi-erst";
    std::string path;
    std::optional<std::uint64_t> size;  ///< bytes
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Pstore&) const = default;
};

}  // namespace virtbus
