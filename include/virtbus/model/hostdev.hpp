// SPDX-License-Identifier: LGPL-2.1-or-later
// <hostdev>: devices of the host given to the guest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/interface.hpp"

namespace virtbus {

enum class HostdevType { usb, pci, scsi, scsi_host, mdev, storage, misc, net };
template <>
struct Words<HostdevType> {
    static constexpr std::array<std::string_view, 8> list{"usb",  "pci",     "scsi", "scsi_host",
                                                          "mdev", "storage", "misc", "net"};
};

struct HostdevSource {
    std::string startup_policy;
    std::optional<bool> write_filtering;                 ///< pci (Xen)
    std::string guest_reset;                             ///< usb: off, uninitialized, on
    std::string protocol;                                ///< scsi: adapter, iscsi; scsi_host: vhost
    std::string wwpn;                                    ///< scsi_host
    std::string name;                                    ///< iscsi
    std::optional<std::uint32_t> vendor_id, product_id;  ///< usb
    std::string adapter;                                 ///< scsi: "scsi_host0"
    std::optional<HostAddress> address;
    std::vector<StorageHost> hosts;  ///< iscsi
    std::optional<StorageAuth> auth;
    std::string initiator_iqn;
    std::string block, character, interface_name;  ///< capabilities: storage, misc, net
    Unknown unknown;
    bool operator==(const HostdevSource&) const = default;
};

struct HostdevDriver {
    std::string name;   ///< vfio, kvm, xen
    std::string model;  ///< a vfio variant driver of the host's
    std::optional<bool> iommufd;
    Unknown unknown;
    bool operator==(const HostdevDriver&) const = default;
};

struct Hostdev {
    std::string mode = "subsystem";  ///< subsystem, capabilities
    HostdevType type = HostdevType::usb;
    std::optional<bool> managed;
    std::string sgio;
    std::optional<bool> rawio;
    std::string model;                   ///< mdev: vfio-pci, vfio-ccw, vfio-ap; scsi_host: virtio...
    std::optional<bool> display, ramfb;  ///< mdev
    std::optional<HostdevDriver> driver;
    HostdevSource source;
    std::optional<Teaming> teaming;
    std::vector<IpAddress> ips;
    std::vector<IpRoute> routes;
    bool readonly = false, shareable = false;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Hostdev&) const = default;
};

}  // namespace virtbus
