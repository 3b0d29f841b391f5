// SPDX-License-Identifier: LGPL-2.1-or-later
// Where a device of the host sits that is given to the guest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "virtbus/model/basics.hpp"

namespace virtbus {

struct HostPciAddress {
    std::string type;  ///< "pci" or, where the owner says it already, ""
    std::uint32_t domain = 0, bus = 0, slot = 0, function = 0;
    Unknown unknown;
    bool operator==(const HostPciAddress&) const = default;
};

struct HostUsbAddress {
    std::string type;  ///< "usb" or ""
    std::optional<std::uint32_t> bus, device;
    std::string port;
    Unknown unknown;
    bool operator==(const HostUsbAddress&) const = default;
};

struct HostScsiAddress {
    std::string type;
    std::uint32_t bus = 0, target = 0;
    std::uint64_t unit = 0;
    Unknown unknown;
    bool operator==(const HostScsiAddress&) const = default;
};

struct HostMdevAddress {
    std::string type;
    std::string uuid;
    Unknown unknown;
    bool operator==(const HostMdevAddress&) const = default;
};

using HostAddress = std::variant<HostPciAddress, HostUsbAddress, HostScsiAddress, HostMdevAddress>;

}  // namespace virtbus
