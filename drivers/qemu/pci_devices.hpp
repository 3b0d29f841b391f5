// SPDX-License-Identifier: LGPL-2.1-or-later
// Which devices of a definition sit on PCI, what kind of place each wants, and the places the chipsets keep for theirs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "qemu/chipset.hpp"
#include "qemu/topology.hpp"

namespace virtbus::qemu {

struct PciNeed {
    DeviceInfo* info;
    unsigned connects;  ///< PciConnect
    std::string name;
};

/// Devices that are on PCI or would be put there, in the order in which places are given out. Devices with an address
/// of another kind are left out. Invalid after any list of the definition changes.
std::vector<PciNeed> pci_needs(DomainConfig& config, const Chipset& chipset);

/// True for models ("virtio", "virtio-scsi", ...) that exist as PCI, CCW and MMIO devices.
bool is_virtio_model(std::string_view model);

/// Gives the chipset's own devices their places and keeps what the chipset occupies. Call after the places that the
/// definition chooses are taken.
void take_chipset_places(DomainConfig& config, const Chipset& chipset, Topology& topology);

}  // namespace virtbus::qemu
