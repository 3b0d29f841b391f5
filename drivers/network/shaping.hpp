// SPDX-License-Identifier: LGPL-2.1-or-later
// Limits what a guest receives and sends over its link, with the kernel's token buckets on the host's side of it. Those
// of a whole network are bridge_shaping.hpp's.
#pragma once

#include <string>

#include "virtbus/model/interface.hpp"

namespace virtbus::network {

/// What comes to the guest leaves the host through this device: at most `average` KiB a second, up to `peak` for a
/// `burst` KiB. An earlier limit is replaced. Blocks.
void limit_inbound(int index, const std::string& name, const BandwidthLimit& limit);

/// What the guest sends comes into the host through this device: what is more than `average` KiB a second, behind a
/// `burst` KiB no faster than `peak`, is dropped. An earlier limit is replaced. Where the kernel has no policing a
/// device beside this one does it, which remove_limits removes. Blocks.
void limit_outbound(int index, const std::string& name, const BandwidthLimit& limit);

/// The device limits nothing any more. Blocks.
void clear_limits(int index, const std::string& name);

/// Removes what stands beside the device, which may have gone already. Blocks.
void remove_limits(int index);

}  // namespace virtbus::network
