// SPDX-License-Identifier: LGPL-2.1-or-later
// Limits what a guest receives over its link, with the kernel's token buckets on the host's side of it.
#pragma once

#include <string>

#include "virtbus/model/interface.hpp"

namespace virtbus::network {

/// What comes to the guest leaves the host through this device: at most `average` KiB a second, up to `peak` for a
/// `burst` KiB. An earlier limit is replaced. Blocks.
void limit_inbound(int index, const std::string& name, const BandwidthLimit& limit);

}  // namespace virtbus::network
