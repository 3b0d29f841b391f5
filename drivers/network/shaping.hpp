// SPDX-License-Identifier: LGPL-2.1-or-later
// Limits what a guest receives and sends over its link, with the kernel's token buckets on the host's side of it.
#pragma once

#include <cstdint>
#include <string>

#include "network/netlink.hpp"
#include "virtbus/model/interface.hpp"

namespace virtbus::network {

/// What comes to the guest leaves the host through this device: at most `average` KiB a second, up to `peak` for a
/// `burst` KiB. An earlier limit is replaced. Blocks.
void limit_inbound(int index, const std::string& name, const BandwidthLimit& limit);

/// What the guest sends comes into the host through this device: what is more than `average` KiB a second, behind a
/// `burst` KiB no faster than `peak`, is dropped. Blocks.
void limit_outbound(int index, const std::string& name, const BandwidthLimit& limit);

/// The request to the kernel that limit_outbound makes; for tests.
Message police_request(int index, std::uint32_t rate, std::uint32_t burst, std::uint32_t peak);

}  // namespace virtbus::network
