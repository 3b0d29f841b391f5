// SPDX-License-Identifier: LGPL-2.1-or-later
// After a change of a disk's chain, whoever made it and however it ended: QEMU is asked what it has, and the record and
// the definition follow. GuestRecord::changing says what may have become of which disk.
#pragma once

#include <memory>

#include "qemu/block/disk_parts.hpp"
#include "qemu/block/graph.hpp"
#include "qemu/guest.hpp"

namespace virtbus::qemu {

/// How long QEMU may take for what must not be left half done.
inline constexpr Duration patient{300'000};

Task<BlockGraph> ask_graph(std::shared_ptr<GuestCore> core);

/// Record and definition are what QEMU says, for all of GuestRecord::changing; images that are in no chain are closed.
Task<> follow_chains(std::shared_ptr<GuestCore> core);
/// QEMU closes sets of descriptors only while its CPUs run.
Task<> close_sets(std::shared_ptr<GuestCore> core);

/// What an earlier daemon, or this one before it lost the monitor, has left half done: its job is cancelled, and it is
/// found out what has become of the chains.
Task<> recover(std::shared_ptr<GuestCore> core);
/// The CPUs that stood still for it run again.
Task<> run_again(std::shared_ptr<GuestCore> core);

/// For what nobody waits for: what goes wrong is logged, and done by the next verb.
Task<> quietly(std::shared_ptr<GuestCore> core, Task<> work);

/// Before any work on images: nothing is left half done, and they are active also after a save.
Task<> make_ready(std::shared_ptr<GuestCore> core);

/// Of the disk with that target. NoSuchDevice.
Disk& get_disk(GuestCore& core, const std::string& target);
/// InvalidState when it has no image.
DiskParts get_parts(const GuestCore& core, const Disk& disk);
/// Lower images that QEMU has left writable, of a merge that was not made, are only read again.
Task<> make_read_only(std::shared_ptr<GuestCore> core, std::string alias);

}  // namespace virtbus::qemu
