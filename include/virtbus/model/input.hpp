// SPDX-License-Identifier: LGPL-2.1-or-later
// <input>: keyboards, mice, tablets and host input devices passed through.
#pragma once

#include <optional>
#include <string>

#include "virtbus/model/device_info.hpp"

namespace virtbus {

struct InputSource {
    std::string evdev;  ///< type passthrough
    std::string dev;    ///< type evdev
    std::string grab;   ///< all
    std::optional<bool> repeat;
    std::string grab_toggle;
    Unknown unknown;
    bool operator==(const InputSource&) const = default;
};

struct Input {
    std::string type = "mouse";  ///< mouse, tablet, keyboard, passthrough, evdev
    std::string bus;             ///< ps2, usb, virtio, xen, none; "" = default
    std::string model;           ///< virtio, virtio-transitional, virtio-non-transitional
    std::optional<VirtioDriver> driver;
    std::optional<InputSource> source;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Input&) const = default;
};

}  // namespace virtbus
