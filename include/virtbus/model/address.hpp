// SPDX-License-Identifier: LGPL-2.1-or-later
// Where a device sits in the guest. Who assigns addresses is the driver's business.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "virtbus/model/basics.hpp"

namespace virtbus {

struct PciAddress {
    std::uint32_t domain = 0;
    std::uint32_t bus = 0;
    std::uint32_t slot = 0;
    std::uint32_t function = 0;
    std::optional<bool> multifunction;
    std::optional<std::uint32_t> zpci_uid, zpci_fid;
    Unknown unknown;

    /// 0000:00:00.x is the host bridge's own: it stands for "on PCI, place not chosen yet" (<address type='pci'/>).
    bool assigned() const { return domain != 0 || bus != 0 || slot != 0; }
    bool operator==(const PciAddress&) const = default;
};

struct DriveAddress {
    std::uint32_t controller = 0, bus = 0, target = 0, unit = 0;
    Unknown unknown;
    bool operator==(const DriveAddress&) const = default;
};

struct UsbAddress {
    std::uint32_t bus = 0;
    std::string port;  ///< "1" or, behind hubs, "1.2.4"; "" = not chosen yet
    Unknown unknown;
    bool operator==(const UsbAddress&) const = default;
};

struct VirtioSerialAddress {
    std::uint32_t controller = 0, bus = 0;
    std::uint32_t port = 0;  ///< 0 = not chosen yet (port 0 is reserved for the console)
    Unknown unknown;
    bool operator==(const VirtioSerialAddress&) const = default;
};

struct CcidAddress {
    std::uint32_t controller = 0, slot = 0;
    Unknown unknown;
    bool operator==(const CcidAddress&) const = default;
};

struct IsaAddress {
    std::optional<std::uint32_t> iobase, irq;
    Unknown unknown;
    bool operator==(const IsaAddress&) const = default;
};

struct CcwAddress {
    std::optional<std::uint32_t> cssid, ssid, devno;
    Unknown unknown;
    bool operator==(const CcwAddress&) const = default;
};

struct SpaprVioAddress {
    std::optional<std::uint64_t> reg;
    Unknown unknown;
    bool operator==(const SpaprVioAddress&) const = default;
};

struct DimmAddress {
    std::optional<std::uint32_t> slot;
    std::optional<std::uint64_t> base;
    Unknown unknown;
    bool operator==(const DimmAddress&) const = default;
};

struct VirtioMmioAddress {
    Unknown unknown;
    bool operator==(const VirtioMmioAddress&) const = default;
};

/// The device is known and must not be given to the guest (a function of a shared PCI device kept back).
struct UnassignedAddress {
    Unknown unknown;
    bool operator==(const UnassignedAddress&) const = default;
};

using Address = std::variant<PciAddress, DriveAddress, UsbAddress, VirtioSerialAddress, CcidAddress, IsaAddress,
                             CcwAddress, SpaprVioAddress, DimmAddress, VirtioMmioAddress, UnassignedAddress>;

}  // namespace virtbus
