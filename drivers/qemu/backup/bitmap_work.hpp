// SPDX-License-Identifier: LGPL-2.1-or-later
// BitmapWork on a running QEMU. All that a backup puts into QEMU has a name that begins with "virtbus-backup", so that
// it can be found and taken away by whoever comes later.
#pragma once

#include <memory>

#include "qemu/guest.hpp"
#include "virtbus/disk_work.hpp"

namespace virtbus::qemu {

/// It must not outlive the guest.
std::unique_ptr<BitmapWork> make_bitmap_work(std::shared_ptr<GuestCore> core);

/// Takes away what a backup has put into QEMU, whoever began it. None is no error.
Task<> clear_backup(std::shared_ptr<GuestCore> core);
/// For adoption: looks whether an earlier daemon has left a backup, and ends it.
Task<> end_left_backup(std::shared_ptr<GuestCore> core, Deadline deadline);

/// Finds out whether the guest's images keep bitmaps; what it finds is in GuestCore::keeps_bitmaps. Never throws.
Task<> look_for_bitmaps(std::shared_ptr<GuestCore> core);

// ---- parts of it
Task<> begin_backup(std::shared_ptr<GuestCore> core, BackupRequest request, std::stop_token stop);
Task<> finish_backup(std::shared_ptr<GuestCore> core, ProgressSink progress, std::stop_token stop);

}  // namespace virtbus::qemu
