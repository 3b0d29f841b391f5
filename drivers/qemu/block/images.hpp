// SPDX-License-Identifier: LGPL-2.1-or-later
// Images that come to a running QEMU: their descriptors, then their nodes.
#pragma once

#include <memory>

#include "qemu/block/open_images.hpp"
#include "qemu/guest.hpp"

namespace virtbus::qemu {

struct OpenedImage {
    Fd writer, reader;
};
/// To be written, and read-only beside, for QEMU to change between.
Task<OpenedImage> open_image(std::string path, Resources& resources);

/// Hands the descriptors over and makes the nodes; a `node` that is empty is not made.
Task<> add_image(std::shared_ptr<GuestCore> core, OpenedImage image, NewNodes nodes);

}  // namespace virtbus::qemu
