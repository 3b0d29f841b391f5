// SPDX-License-Identifier: LGPL-2.1-or-later
// What every device of the guest may carry beside its own words: alias, boot order, option ROM, ACPI index, address.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "virtbus/model/address.hpp"

namespace virtbus {

struct Rom {
    std::optional<bool> enabled;
    std::optional<bool> bar;
    std::string file;
    Unknown unknown;
    bool operator==(const Rom&) const = default;
};

struct DeviceInfo {
    std::string alias;  ///< "" = none yet; names starting with "ua-" are the user's own and are kept in definitions
    std::optional<std::uint32_t> boot_order;
    std::string loadparm;
    std::optional<std::uint32_t> usb_master_startport;  ///< controllers: companion of the EHCI with the same index
    std::optional<Rom> rom;
    std::optional<std::uint32_t> acpi_index;
    std::optional<Address> address;
    bool operator==(const DeviceInfo&) const = default;

    template <class T>
    const T* address_as() const {
        return address ? std::get_if<T>(&*address) : nullptr;
    }
    template <class T>
    T* address_as() {
        return address ? std::get_if<T>(&*address) : nullptr;
    }
};

/// The <driver> attributes that every virtio device has.
struct VirtioOptions {
    std::optional<bool> iommu, ats, packed, page_per_vq;
    bool operator==(const VirtioOptions&) const = default;
};

/// A <driver> element that holds nothing but VirtioOptions.
struct VirtioDriver {
    VirtioOptions virtio;
    Unknown unknown;
    bool operator==(const VirtioDriver&) const = default;
};

}  // namespace virtbus
