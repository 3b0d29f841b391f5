// SPDX-License-Identifier: LGPL-2.1-or-later
// The names of a running test domain's devices, and which of them need the host.
#pragma once

#include "virtbus/driver.hpp"
#include "virtbus/model/domain.hpp"

namespace virtbus::test_driver {

/// Gives those without an alias the first free one of their kind.
void name_devices(DomainConfig& config);
bool needs_link(InterfaceType type);
/// Those among them that stand for PCI devices of the host.
std::vector<PciRequest> pci_devices(const std::vector<Hostdev>& hostdevs);

}  // namespace virtbus::test_driver
