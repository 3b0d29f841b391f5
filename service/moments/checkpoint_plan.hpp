// SPDX-License-Identifier: LGPL-2.1-or-later
// What a wanted checkpoint comes down to for a domain, and which bitmaps have what changed since one. Pure. Only the
// bitmap of the latest checkpoint of a disk records; what changed since an earlier one is in its bitmap and in those of
// all that came after it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "service/moments/index.hpp"
#include "virtbus/disk_work.hpp"
#include "virtbus/model/domain.hpp"
#include "virtbus/model/moments.hpp"

namespace virtbus {

/// A disk with an image of its own that is written to.
bool is_written_disk(const Disk& disk);
/// By target, or by the path of its source; null: there is none.
const Disk* find_disk(const DomainConfig& config, const std::string& name);

/// An entry with everything but id, parent and state; its disks are those that get a bitmap. InvalidXML,
/// UnsupportedConfiguration: a disk that is not there, or whose image cannot keep a bitmap; none that can.
MomentEntry plan_checkpoint(const CheckpointConfig& wanted, const DomainConfig& config, std::uint64_t now);
/// The record of it: the XML with its disks as they were settled. Without the definition.
CheckpointConfig record_of(const MomentEntry& entry, const CheckpointConfig& wanted, const DomainConfig& config);

const MomentDisk* find_disk(const MomentEntry& entry, const std::string& target);
/// The nearest checkpoint that has a bitmap for the disk, from that name on towards the root; null: none.
const MomentEntry* nearest(const MomentIndex& index, std::string name, const std::string& target);
/// The bitmaps that between them have what changed on the disk since the checkpoint. NoSuchCheckpoint;
/// CheckpointInconsistent: it does not lie on the line to the current one, or has no bitmap for the disk.
std::vector<std::string> bitmaps_since(const MomentIndex& index, const std::string& name, const std::string& target);

/// The new bitmaps, in one step with the end of recording in those before.
std::vector<BitmapChange> changes_for(const MomentEntry& entry, const MomentIndex& index);

}  // namespace virtbus
