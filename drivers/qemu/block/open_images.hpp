// SPDX-License-Identifier: LGPL-2.1-or-later
// The images that QEMU has open, as it was told to open them, and how others are opened like them. Pure.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "qemu/guest_record.hpp"
#include "qemu/hotplug/parts.hpp"
#include "virtbus/model/disk.hpp"

namespace virtbus::qemu {

void note_images(GuestRecord& record, const std::map<std::string, ImageFile>& images, const std::vector<Word>& words);

/// An image on its way into a chain: what blockdev-add is told, the file first.
struct NewNodes {
    unsigned set = 0;
    nlohmann::json storage, node;
};

/// The image on top of what a disk writes to now, opened in the same manner: caching, discarding ...
NewNodes overlay_nodes(const RecordedImage& top, const ImageFile& overlay, const Disk& disk, unsigned number,
                       unsigned set);
/// The file of an image once more, this time to be written.
NewNodes writable_storage(const RecordedImage& image, unsigned number, unsigned set);
/// What a guest writes to is to discard what the guest discards ...: so is an image that becomes that.
void open_like_top(RecordedImage& image, const RecordedImage& top);
/// What blockdev-reopen is told of an image: on `storage` and over `below` ("" = nothing) from then on.
nlohmann::json reopened(const RecordedImage& image, const std::string& storage, const std::string& below,
                        bool read_only);

}  // namespace virtbus::qemu
