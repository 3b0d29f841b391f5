// SPDX-License-Identifier: LGPL-2.1-or-later
// Takes an internal snapshot of a qcow2 image that nobody uses, as docs/interop/qcow2 of QEMU says it is stored: the
// active tables are shared, and the list of snapshots is written as one piece. (qemu-img writes it field by field, so
// that the 200th snapshot costs it seven times the first.) Going back to one and removing it are qemu-img's.
#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>

#include "qemu/images/image_bytes.hpp"

namespace virtbus::qemu {

/// The caller holds the image (image_lock.hpp), and `tag` is not in it; `now` is in
/// microseconds since the epoch. Nothing when it is done and has reached the
/// disk; else why this image is left to qemu-img, and then nothing was changed. A crash at any point leaves what the
/// guest and every snapshot see; clusters may be left that nobody uses. `end`: where a block device ends. Throws
/// Cancelled before the first change, and what ImageBytes throws.
std::optional<std::string> take_qcow2_snapshot(ImageBytes& image, const std::string& tag, std::uint64_t now,
                                               std::uint64_t end, const std::stop_token& stop);

}  // namespace virtbus::qemu
