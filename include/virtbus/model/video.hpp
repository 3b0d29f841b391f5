// SPDX-License-Identifier: LGPL-2.1-or-later
// <video>: graphics cards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "virtbus/model/device_info.hpp"

namespace virtbus {

struct VideoDriver {
    std::string name;     ///< qemu, vhostuser
    std::string vgaconf;  ///< io, on, off
    VirtioOptions virtio;
    Unknown unknown;
    bool operator==(const VideoDriver&) const = default;
};

struct VideoAcceleration {
    std::optional<bool> accel2d, accel3d;
    std::string rendernode;
    Unknown unknown;
    bool operator==(const VideoAcceleration&) const = default;
};

struct VideoResolution {
    std::uint32_t x = 0, y = 0;
    Unknown unknown;
    bool operator==(const VideoResolution&) const = default;
};

struct VideoModel {
    std::string type;  ///< vga, cirrus, qxl, virtio, bochs, ramfb, vmvga, none ...; "" = default
    std::optional<std::uint32_t> ram, vram, vram64, vgamem;  ///< KiB
    std::optional<std::uint32_t> heads;
    std::optional<bool> primary, blob;
    std::string edid;
    std::optional<VideoAcceleration> acceleration;
    std::optional<VideoResolution> resolution;
    Unknown unknown;
    bool operator==(const VideoModel&) const = default;
};

struct Video {
    std::optional<VideoDriver> driver;
    VideoModel model;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Video&) const = default;
};

}  // namespace virtbus
