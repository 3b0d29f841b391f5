// SPDX-License-Identifier: LGPL-2.1-or-later
// <redirdev>: USB devices redirected from a client, and <redirfilter>: which of them may come.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/chardev.hpp"

namespace virtbus {

struct Redirdev {
    std::string bus = "usb";
    ChardevType type = ChardevType::spicevmc;
    ChardevBackend backend;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Redirdev&) const = default;
};

/// Absent (or -1 in the XML) = any.
struct UsbFilter {
    std::optional<std::uint32_t> device_class, vendor, product;
    std::string version;  ///< "1.10"; "" = any
    bool allow = false;
    Unknown unknown;
    bool operator==(const UsbFilter&) const = default;
};

struct Redirfilter {
    std::vector<UsbFilter> usbdevs;
    Unknown unknown;
    bool operator==(const Redirfilter&) const = default;
};

}  // namespace virtbus
