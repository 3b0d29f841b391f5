// SPDX-License-Identifier: LGPL-2.1-or-later
// The PCI buses of a guest and what sits on them: finds free places, adds buses when there are none, and refuses two
// devices in one place. Which device wants which kind of place is pci_devices.hpp's knowledge.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "qemu/chipset.hpp"

namespace virtbus::qemu {

/// What a device is to the bus it hangs on, and what a bus takes.
enum PciConnect : unsigned {
    pci_device = 1,
    pcie_device = 2,
    pci_bridge = 4,
    dmi_to_pci_bridge = 8,
    pcie_to_pci_bridge = 16,
    pcie_root_port = 32,
    pcie_switch_upstream_port = 64,
    pcie_switch_downstream_port = 128,
    pci_expander_bus = 256,
    pcie_expander_bus = 512,
    hotpluggable = 1024,
    shares_slot = 2048,  ///< takes the next function of a slot with its like
    integrated = 4096,   ///< belongs on the root bus
};

/// What a PCI controller of that model is to the bus above; 0 for roots and unknown models.
unsigned connect_of_model(std::string_view model);
bool is_pci_model(std::string_view model);

class Topology {
public:
    explicit Topology(const Chipset& chipset) : chipset_{chipset} {}

    void add_bus(unsigned index, const std::string& model);
    /// Buses up to `index` exist from now on; missing ones are root ports or bridges.
    void grow_to(unsigned index);
    std::size_t size() const { return buses_.size(); }
    const std::string& model(unsigned index) const { return buses_[index].model; }
    /// Every place of every bus is taken or kept.
    bool full() const;

    /// UnsupportedConfiguration unless such a device can be on that bus when somebody wants it there: endpoints of one
    /// kind go where those of the other do, and whether they could be unplugged there does not matter.
    void require_fits(const PciAddress& address, unsigned connects, const std::string& who) const;
    /// Takes a place. UnsupportedConfiguration, naming both, when somebody has it or it does not exist.
    void take(const PciAddress& address, const std::string& who);
    /// More root ports may join the one at this place, as its slot's next functions.
    void share(const PciAddress& address) { buses_[address.bus].shared_slot = address.slot; }
    bool is_free(const PciAddress& address) const;
    bool slot_is_free(unsigned bus, unsigned slot) const;
    /// The next free place for such a device; adds buses when none is left. Takes it.
    PciAddress next(unsigned connects, const std::string& who);
    /// Slots of which more than one function is taken want `multifunction` on their function 0.
    bool has_functions(const PciAddress& address) const;

private:
    struct Bus {
        std::string model;
        unsigned accepts = 0;
        unsigned first = 1, last = 31;
        unsigned shared_slot = 0;  ///< last slot that root ports share
    };
    using Place = std::tuple<unsigned, unsigned, unsigned, unsigned>;

    bool find(unsigned connects, PciAddress& out) const;
    void grow_for(unsigned connects, const std::string& who);
    void require_exists(const PciAddress& address, const std::string& who) const;

    const Chipset& chipset_;
    std::vector<Bus> buses_;
    std::map<Place, std::string> taken_;
};

std::string text_of(const PciAddress& address);

}  // namespace virtbus::qemu
