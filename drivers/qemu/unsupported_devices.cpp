// SPDX-License-Identifier: LGPL-2.1-or-later
// What of a definition's interfaces and other devices the emulator or this host cannot do.
#include <fmt/format.h>

#include <algorithm>

#include "qemu/chipset.hpp"
#include "qemu/pci_devices.hpp"
#include "qemu/unsupported_parts.hpp"

namespace virtbus::qemu {

void check_interfaces(const DomainConfig&, const Capabilities&, Problems&) {}
void check_small_devices(const DomainConfig&, const Capabilities&, Problems&) {}

}  // namespace virtbus::qemu
