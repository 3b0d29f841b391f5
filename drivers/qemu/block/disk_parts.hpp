// SPDX-License-Identifier: LGPL-2.1-or-later
// What stands behind a disk (GuestRecord::parts), image by image, and how the definition follows when images come and
// go. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "qemu/guest_record.hpp"
#include "virtbus/model/disk.hpp"

namespace virtbus::qemu {

/// One image: the sets, nodes and secrets it needs, in their order, and last its own node "libvirt-<n>-format".
struct ImageParts {
    std::vector<std::string> parts;

    std::string node() const;
    /// The node that reads the file, "" when it is none of a kind of its own.
    std::string storage() const;
    bool holds(std::string_view node) const;
    /// The set and the node that read the file are exchanged; false when there are none.
    bool exchange_storage(const std::string& set, const std::string& node);
};

struct DiskParts {
    std::vector<ImageParts> images;  ///< from the bottom up
    std::vector<std::string> above;  ///< filters and the device

    static DiskParts of(const std::vector<std::string>& parts);
    std::vector<std::string> texts() const;
    /// The node that the device reads.
    std::string root() const;
};

bool is_image_node(std::string_view node);

/// The disk of the definition after its images have become others: what is new on top is put there, what is gone taken
/// out.
void follow_images(Disk& disk, const DiskParts& before, const DiskParts& now, const GuestRecord& record);

}  // namespace virtbus::qemu
