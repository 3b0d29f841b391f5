// SPDX-License-Identifier: LGPL-2.1-or-later
// <controller>: the buses devices hang on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "virtbus/model/device_info.hpp"

namespace virtbus {

enum class ControllerType { ide, fdc, scsi, sata, virtio_serial, ccid, usb, pci, isa, xenbus, nvme };
template <>
struct Words<ControllerType> {
    static constexpr std::array<std::string_view, 11> list{"ide", "fdc", "scsi", "sata",   "virtio-serial", "ccid",
                                                           "usb", "pci", "isa",  "xenbus", "nvme"};
};

struct ControllerDriver {
    std::optional<std::uint32_t> queues, cmd_per_lun, max_sectors;
    std::optional<bool> ioeventfd;
    std::optional<std::uint32_t> iothread;
    VirtioOptions virtio;
    Unknown unknown;
    bool operator==(const ControllerDriver&) const = default;
};

struct ControllerTarget {
    std::optional<std::uint32_t> chassis_nr, chassis, port, bus_nr, index;
    std::optional<bool> hotplug;
    std::optional<std::uint32_t> node;  ///< NUMA node of an expander bus
    Unknown unknown;
    bool operator==(const ControllerTarget&) const = default;
};

struct Controller {
    ControllerType type = ControllerType::pci;
    std::optional<std::uint32_t> index;  ///< absent: the next free one of its type
    std::string model;                   ///< "virtio-scsi", "qemu-xhci", "pcie-root-port" ...; "" = default
    std::optional<std::uint32_t> ports, vectors;
    std::optional<std::uint32_t> max_grant_frames, max_event_channels;
    std::string serial;      ///< nvme
    std::string model_name;  ///< pci: the device behind the model, "pcie-root-port", "ioh3420" ...
    std::optional<ControllerTarget> target;
    std::optional<std::uint64_t> pcihole64;  ///< bytes
    std::optional<ControllerDriver> driver;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Controller&) const = default;
};

}  // namespace virtbus
