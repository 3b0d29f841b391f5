// SPDX-License-Identifier: LGPL-2.1-or-later
// The images of a disk's chain as its definition names them, and what becomes of the definition when an image is put on
// top or taken out. What the images themselves say is the drivers' knowledge.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/disk.hpp"

namespace virtbus {

/// A local image: a file or a block device.
struct ImageFile {
    std::string path;
    std::string format;  ///< qcow2, raw ...
    bool block_device = false;
    bool operator==(const ImageFile&) const = default;
};

/// What the disk writes to; nothing for an empty drive and for what is no local file or block device.
std::optional<ImageFile> top_image(const Disk& disk);
/// The images the definition names, from the top; the written part only.
std::vector<ImageFile> written_images(const Disk& disk);

/// The disk writes to the overlay from now on; what it wrote to lies below. A definition that leaves the chain to be
/// found goes on to do so.
void put_overlay(Disk& disk, const ImageFile& overlay);
/// The disk writes to `image`, whose own chain is to be found.
void set_top(Disk& disk, const ImageFile& image);
/// `gone` has left the chain; what lay above it lies on what was below, which may be the new top.
void take_out(Disk& disk, const std::string& gone, const ImageFile& below);

}  // namespace virtbus
