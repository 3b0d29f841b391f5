// SPDX-License-Identifier: LGPL-2.1-or-later
// Samples a guest's counters: QEMU's in one batch of questions, the host's from /proc. Keeping the last sample and
// saying how old it is is service's work.
#pragma once

#include <memory>
#include <stop_token>

#include "qemu/guest.hpp"

namespace virtbus::qemu {

/// Keys are those of libvirt's records.
Task<Stats> sample_stats(std::shared_ptr<GuestCore> core, std::stop_token stop);

}  // namespace virtbus::qemu
