// SPDX-License-Identifier: LGPL-2.1-or-later
// <memory> devices (DIMMs, NVDIMMs, virtio-mem ...) and <memballoon>.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "virtbus/model/device_info.hpp"

namespace virtbus {

struct MemoryDeviceSource {
    std::optional<std::uint64_t> pagesize;  ///< bytes
    std::optional<CpuSet> nodemask;
    std::string path;
    std::optional<std::uint64_t> alignsize;
    bool pmem = false;
    Unknown unknown;
    bool operator==(const MemoryDeviceSource&) const = default;
};

/// Sizes in bytes.
struct MemoryDeviceTarget {
    std::optional<bool> dynamic_memslots;
    std::uint64_t size = 0;
    std::optional<std::uint32_t> node;
    std::optional<std::uint64_t> label_size, block, requested, current;
    std::optional<std::uint64_t> address_base;
    bool readonly = false;
    Unknown unknown;
    bool operator==(const MemoryDeviceTarget&) const = default;
};

struct MemoryDevice {
    std::string model = "dimm";  ///< dimm, nvdimm, virtio-pmem, virtio-mem, sgx-epc
    std::string access;          ///< shared, private
    std::optional<bool> discard;
    std::string uuid;
    std::optional<MemoryDeviceSource> source;
    MemoryDeviceTarget target;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const MemoryDevice&) const = default;
};

struct Memballoon {
    std::string model = "virtio";  ///< virtio, virtio-transitional, virtio-non-transitional, xen, none
    std::optional<bool> autodeflate, free_page_reporting;
    std::optional<std::uint32_t> stats_period;  ///< seconds
    std::optional<VirtioDriver> driver;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Memballoon&) const = default;
};

}  // namespace virtbus
