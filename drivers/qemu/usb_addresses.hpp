// SPDX-License-Identifier: LGPL-2.1-or-later
// Ports of the guest's USB controllers and hubs for its USB devices.
#pragma once

#include "virtbus/model/domain.hpp"

namespace virtbus::qemu {

/// Adds hubs when the ports do not suffice. UnsupportedConfiguration when there is no USB.
void assign_usb_addresses(DomainConfig& config);

/// A device of the definition that hangs on USB.
bool has_usb_devices(const DomainConfig& config);

}  // namespace virtbus::qemu
