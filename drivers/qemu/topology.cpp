// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/topology.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

struct Model {
    std::string_view name;
    unsigned connects;  // to the bus above
    unsigned accepts;
    unsigned first, last;  // slots
};
constexpr std::array models{
    Model{"pci-root", 0, pci_device | pci_bridge | pci_expander_bus | hotpluggable, 1, 31},
    Model{"pcie-root", 0, pcie_device | pcie_root_port | dmi_to_pci_bridge | pcie_expander_bus | integrated, 1, 31},
    Model{"pci-bridge", pci_bridge, pci_device | pci_bridge | hotpluggable, 1, 31},
    Model{"dmi-to-pci-bridge", dmi_to_pci_bridge, pci_device | pci_bridge, 0, 31},
    Model{"pcie-to-pci-bridge", pcie_to_pci_bridge, pci_device | pci_bridge | hotpluggable, 1, 31},
    Model{"pcie-root-port", pcie_root_port | shares_slot,
          pcie_device | pcie_to_pci_bridge | pcie_switch_upstream_port | hotpluggable, 0, 0},
    Model{"pcie-switch-upstream-port", pcie_switch_upstream_port, pcie_switch_downstream_port, 0, 31},
    Model{"pcie-switch-downstream-port", pcie_switch_downstream_port,
          pcie_device | pcie_to_pci_bridge | pcie_switch_upstream_port | hotpluggable, 0, 0},
    Model{"pci-expander-bus", pci_expander_bus, pci_device | pci_bridge, 0, 31},
    Model{"pcie-expander-bus", pcie_expander_bus, pcie_root_port | dmi_to_pci_bridge, 0, 31},
};
constexpr std::size_t most_buses = 256;

const Model* find_model(std::string_view name) {
    const auto found = std::find_if(models.begin(), models.end(), [&](auto& model) { return model.name == name; });
    return found == models.end() ? nullptr : found;
}

constexpr unsigned kinds = ~unsigned{hotpluggable | shares_slot};

}  // namespace

unsigned connect_of_model(std::string_view model) {
    const Model* found = find_model(model);
    return found ? found->connects : 0;
}
bool is_pci_model(std::string_view model) {
    return find_model(model) != nullptr;
}

std::string text_of(const PciAddress& address) {
    return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", address.domain, address.bus, address.slot, address.function);
}

void Topology::add_bus(unsigned index, const std::string& model) {
    if (index >= most_buses)
        throw Error{Code::unsupported_configuration,
                    fmt::format("PCI controller {} is too many; the index may be 0 to {}", index, most_buses - 1)};
    const Model* known = find_model(model);
    if (!known)
        throw Error{Code::unsupported_configuration,
                    fmt::format("PCI controller {} has no known model ('{}')", index, model)};
    if (buses_.size() <= index) buses_.resize(index + 1);
    if (!buses_[index].model.empty())
        throw Error{Code::unsupported_configuration,
                    fmt::format("there are two PCI controllers with the index {}", index)};
    buses_[index] = {model, known->accepts, known->first, known->last, 0};
}

void Topology::grow_to(unsigned index) {
    const char* model = chipset_.pcie() ? "pcie-root-port" : "pci-bridge";
    for (unsigned i = 0; i <= index; ++i)
        if (i >= buses_.size() || buses_[i].model.empty()) add_bus(i, model);
}

bool Topology::full() const {
    for (unsigned bus = 0; bus < buses_.size(); ++bus)
        for (unsigned slot = buses_[bus].first; slot <= buses_[bus].last; ++slot)
            if (slot_is_free(bus, slot)) return false;
    return true;
}

void Topology::require_exists(const PciAddress& address, const std::string& who) const {
    const auto refuse = [&](const std::string& why) {
        throw Error{Code::unsupported_configuration,
                    fmt::format("{} is put at PCI address {}, but {}", who, text_of(address), why)};
    };
    if (address.domain != 0) refuse("this machine has only the PCI domain 0");
    if (address.bus >= buses_.size() || buses_[address.bus].model.empty())
        refuse(fmt::format("there is no PCI controller with the index {}", address.bus));
    const Bus& bus = buses_[address.bus];
    if (address.slot < bus.first || address.slot > bus.last)
        refuse(fmt::format("a {} has the slots {} to {}", bus.model, bus.first, bus.last));
    if (address.function > 7) refuse("a slot has the functions 0 to 7");
}

void Topology::require_fits(const PciAddress& address, unsigned connects, const std::string& who) const {
    if (address.domain != 0 || address.bus >= buses_.size()) return;  // take() says so
    constexpr unsigned endpoints = pci_device | pcie_device;
    const Bus& bus = buses_[address.bus];
    const unsigned accepts = bus.accepts & endpoints ? bus.accepts | endpoints : bus.accepts;
    if (connects & kinds & accepts) return;
    throw Error{Code::unsupported_configuration,
                fmt::format("{} is put at PCI address {}, but bus {} is a {}, which takes no such device", who,
                            text_of(address), address.bus, bus.model)};
}

void Topology::take(const PciAddress& address, const std::string& who) {
    require_exists(address, who);
    const Place place{address.domain, address.bus, address.slot, address.function};
    const auto [there, fresh] = taken_.emplace(place, who);
    if (!fresh)
        throw Error{Code::unsupported_configuration,
                    fmt::format("{} and {} are both at PCI address {}", there->second, who, text_of(address))};
}

bool Topology::is_free(const PciAddress& address) const {
    return !taken_.contains({address.domain, address.bus, address.slot, address.function});
}

bool Topology::slot_is_free(unsigned bus, unsigned slot) const {
    const auto at = taken_.lower_bound({0, bus, slot, 0});
    return at == taken_.end() || std::get<1>(at->first) != bus || std::get<2>(at->first) != slot;
}

bool Topology::has_functions(const PciAddress& address) const {
    const auto at = taken_.upper_bound({address.domain, address.bus, address.slot, 0});
    return at != taken_.end() && std::get<1>(at->first) == address.bus && std::get<2>(at->first) == address.slot;
}

bool Topology::find(unsigned connects, PciAddress& out) const {
    for (unsigned i = 0; i < buses_.size(); ++i) {
        const Bus& bus = buses_[i];
        if ((bus.accepts & connects & kinds) == 0) continue;
        if ((connects & integrated) && !(bus.accepts & integrated) && chipset_.pcie()) continue;
        if ((connects & hotpluggable) && !(bus.accepts & hotpluggable)) continue;
        out.bus = i;
        if ((connects & shares_slot) && bus.shared_slot) {
            out.slot = bus.shared_slot;
            for (out.function = 1; out.function < 8; ++out.function)
                if (is_free(out)) return true;
        }
        out.function = 0;
        for (out.slot = bus.first; out.slot <= bus.last; ++out.slot)
            if (slot_is_free(i, out.slot)) return true;
    }
    return false;
}

void Topology::grow_for(unsigned connects, const std::string& who) {
    const unsigned next_index = static_cast<unsigned>(buses_.size());
    if (!chipset_.pcie()) {
        if (connects & (pci_device | pci_bridge)) return add_bus(next_index, "pci-bridge");
    } else if (connects & (pci_device | pci_bridge)) {
        // A conventional device needs a bridge, and the bridge a root port above it.
        PciAddress place;
        if (!find(pcie_to_pci_bridge | hotpluggable, place)) add_bus(next_index, "pcie-root-port");
        return add_bus(static_cast<unsigned>(buses_.size()), "pcie-to-pci-bridge");
    } else if (connects & (pcie_device | pcie_to_pci_bridge | pcie_switch_upstream_port)) {
        return add_bus(next_index, "pcie-root-port");
    }
    throw Error{Code::unsupported_configuration, fmt::format("no PCI bus has a free place for {}", who)};
}

PciAddress Topology::next(unsigned connects, const std::string& who) {
    PciAddress place;
    while (!find(connects, place)) grow_for(connects, who);
    if (connects & shares_slot) {
        Bus& bus = buses_[place.bus];
        if (place.function == 0) bus.shared_slot = place.slot;
    }
    take(place, who);
    return place;
}

}  // namespace virtbus::qemu
