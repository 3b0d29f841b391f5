// SPDX-License-Identifier: LGPL-2.1-or-later
// Snapshots of a running QEMU: overlays, merges and what is kept inside images. QEMU has images by descriptors only and
// by nodes of a name each; which belongs to which disk is GuestRecord::parts, and follow.hpp keeps that true.
#pragma once

#include <memory>

#include "qemu/guest.hpp"
#include "virtbus/disk_work.hpp"

namespace virtbus::qemu {

Task<> put_overlays(std::shared_ptr<GuestCore> core, std::vector<NewOverlay> overlays, Resources& resources,
                    std::stop_token stop);
Task<> take_internal(std::shared_ptr<GuestCore> core, InternalSnapshot snapshot, ProgressSink progress,
                     std::stop_token stop);
Task<> load_internal(std::shared_ptr<GuestCore> core, InternalSnapshot snapshot, ProgressSink progress,
                     std::stop_token stop);
Task<> remove_internal(std::shared_ptr<GuestCore> core, InternalSnapshot snapshot, std::stop_token stop);
Task<> take_disks_only(std::shared_ptr<GuestCore> core, InternalSnapshot snapshot, std::stop_token stop);
Task<> merge(std::shared_ptr<GuestCore> core, ChainMerge merge, Resources& resources, ProgressSink progress,
             std::stop_token stop);

/// Of a guest; lives as long as the guest's verbs.
class QemuDiskWork final : public DiskWork {
public:
    explicit QemuDiskWork(std::shared_ptr<GuestCore> core) : core_{std::move(core)} {}

    Task<> put_overlays(std::vector<NewOverlay> overlays, Resources& resources, std::stop_token stop) override {
        return qemu::put_overlays(core_, std::move(overlays), resources, std::move(stop));
    }
    Task<> take_internal(InternalSnapshot snapshot, ProgressSink progress, std::stop_token stop) override {
        return qemu::take_internal(core_, std::move(snapshot), std::move(progress), std::move(stop));
    }
    Task<> load_internal(InternalSnapshot snapshot, ProgressSink progress, std::stop_token stop) override {
        return qemu::load_internal(core_, std::move(snapshot), std::move(progress), std::move(stop));
    }
    Task<> remove_internal(InternalSnapshot snapshot, std::stop_token stop) override {
        return qemu::remove_internal(core_, std::move(snapshot), std::move(stop));
    }
    Task<> take_disks_only(InternalSnapshot snapshot, std::stop_token stop) override {
        return qemu::take_disks_only(core_, std::move(snapshot), std::move(stop));
    }
    Task<> merge(ChainMerge merge, Resources& resources, ProgressSink progress, std::stop_token stop) override {
        return qemu::merge(core_, std::move(merge), resources, std::move(progress), std::move(stop));
    }

private:
    std::shared_ptr<GuestCore> core_;
};

}  // namespace virtbus::qemu
