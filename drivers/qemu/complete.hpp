// SPDX-License-Identifier: LGPL-2.1-or-later
// Makes a definition whole as libvirt would: machine alias, default devices and controllers, models, addresses.
#pragma once

#include "qemu/capabilities.hpp"
#include "virtbus/model/domain.hpp"

namespace virtbus::qemu {

/// What `config` already says stays; where it is silent about an address, `previous` (may be null) is followed.
/// UnsupportedConfiguration for what contradicts itself.
void complete(DomainConfig& config, const DomainConfig* previous, const Capabilities& capabilities);

}  // namespace virtbus::qemu
