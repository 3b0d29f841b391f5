// SPDX-License-Identifier: LGPL-2.1-or-later
// The devices' part of complete.hpp: models, back ends, devices that every machine of its kind has, controllers.
#pragma once

#include "qemu/capabilities.hpp"
#include "qemu/chipset.hpp"

namespace virtbus::qemu {

void complete_devices(DomainConfig& config, const Chipset& chipset, const Capabilities& capabilities);

/// Controllers that the devices need or the chipset has; wants the drive addresses to be there.
void complete_controllers(DomainConfig& config, const Chipset& chipset, const Capabilities& capabilities);

/// The parameters of PCI controllers that follow from their addresses.
void complete_pci_controllers(DomainConfig& config, const Chipset& chipset);

}  // namespace virtbus::qemu
