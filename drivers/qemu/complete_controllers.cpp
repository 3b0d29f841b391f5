// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "qemu/complete_devices.hpp"
#include "qemu/device_list.hpp"
#include "qemu/pci_devices.hpp"
#include "qemu/usb_addresses.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

bool has(const DomainConfig& config, ControllerType type, unsigned index) {
    const auto& all = config.devices.controllers;
    return std::any_of(all.begin(), all.end(), [&](auto& c) { return c.type == type && c.index.value_or(0) == index; });
}

void add(DomainConfig& config, ControllerType type, unsigned index, std::string_view model) {
    Controller controller;
    controller.type = type;
    controller.index = index;
    controller.model = model;
    insert_controller(config.devices, std::move(controller));
}

void ensure(DomainConfig& config, ControllerType type, unsigned index, std::string_view model) {
    if (!has(config, type, index)) add(config, type, index, model);
}

bool is_of_ich9(const Controller& controller) {
    return controller.type == ControllerType::usb && controller.model.starts_with("ich9-");
}
bool is_companion(const Controller& controller) {
    return controller.type == ControllerType::usb && controller.model.starts_with("ich9-uhci");
}

/// The index of a USB 2 set that still lacks this one.
std::optional<std::uint32_t> find_set(const std::vector<Controller>& all, const Controller& wanted) {
    if (!is_of_ich9(wanted)) return std::nullopt;
    for (const auto& member : all) {
        if (&member == &wanted) break;
        const auto has_it = [&](const Controller& other) {
            return is_of_ich9(other) && other.index == member.index && other.model == wanted.model;
        };
        if (is_of_ich9(member) && member.index && std::none_of(all.begin(), all.end(), has_it)) return member.index;
    }
    return std::nullopt;
}

/// Controllers without an index take the next free one of their type; the companions of a USB 2 set share one.
void number(DomainConfig& config) {
    auto& all = config.devices.controllers;
    for (auto& controller : all) {
        if (!controller.index) controller.index = find_set(all, controller);
        if (controller.index) continue;
        const bool below_root = controller.type == ControllerType::pci && !controller.model.ends_with("-root");
        unsigned index = below_root ? 1 : 0;
        const auto taken = [&](const Controller& other) {
            return other.type == controller.type && other.index == std::optional<std::uint32_t>{index};
        };
        while (std::any_of(all.begin(), all.end(), taken)) ++index;
        controller.index = index;
    }
    for (auto& controller : all)
        if (is_companion(controller) && !controller.info.usb_master_startport)
            controller.info.usb_master_startport = 2 * static_cast<unsigned>(controller.model.back() - '1');
}

/// Those of a type stand together, in the order of their indexes: in that order they get their places.
void sort(Devices& devices) {
    std::vector<Controller> all;
    std::swap(all, devices.controllers);
    for (auto& controller : all) insert_controller(devices, std::move(controller));
}

void check_numbers(const DomainConfig& config) {
    std::set<std::tuple<ControllerType, unsigned, std::string>> seen;
    for (const auto& controller : config.devices.controllers) {
        if (!seen.emplace(controller.type, controller.index.value_or(0), is_of_ich9(controller) ? controller.model : "")
                 .second)
            throw Error{Code::unsupported_configuration,
                        fmt::format("there are two {} controllers with the index {}", word(controller.type),
                                    controller.index.value_or(0))};
    }
}

std::string_view scsi_model(const Chipset& chipset, const Capabilities& capabilities) {
    const bool lsi = chipset.scsi == "lsilogic";
    if (lsi && !capabilities.has_device("lsi53c895a")) return "virtio-scsi";
    return chipset.scsi.empty() ? "virtio-scsi" : chipset.scsi;
}

std::string_view usb_model(std::string_view wanted, const Capabilities& capabilities) {
    if (wanted == "qemu-xhci" && !capabilities.has_device("qemu-xhci")) return "nec-xhci";
    if (wanted == "piix3-uhci" && !capabilities.has_device("piix3-usb-uhci")) return "pci-ohci";
    return wanted;
}

/// Of the first one there, so that disks beyond it need no other driver in the guest.
std::string model_of_first(const DomainConfig& config, ControllerType type) {
    for (const auto& controller : config.devices.controllers)
        if (controller.type == type) return controller.model;
    return "";
}

void add_for_devices(DomainConfig& config) {
    struct Kind {
        std::string_view bus;
        ControllerType type;
    };
    constexpr Kind kinds[]{{"scsi", ControllerType::scsi},
                           {"nvme", ControllerType::nvme},
                           {"ide", ControllerType::ide},
                           {"sata", ControllerType::sata},
                           {"fdc", ControllerType::fdc}};
    const Devices& devices = config.devices;
    const auto up_to = [&](ControllerType type, unsigned last) {
        if (last > 255)
            throw Error{Code::unsupported_configuration, fmt::format("{} controller {} is too many", word(type), last)};
        const std::string model = type == ControllerType::scsi ? model_of_first(config, type) : "";
        for (unsigned index = 0; index <= last; ++index) ensure(config, type, index, model);
    };
    for (const auto& kind : kinds)
        for (std::size_t i = 0; i < devices.disks.size(); ++i)
            if (const auto* at = devices.disks[i].info.address_as<DriveAddress>();
                at && devices.disks[i].target.bus == kind.bus)
                up_to(kind.type, at->controller);
    for (std::size_t i = 0; i < devices.hostdevs.size(); ++i)
        if (const auto* at = devices.hostdevs[i].info.address_as<DriveAddress>())
            up_to(ControllerType::scsi, at->controller);
    // Those that are named and no others: one with a lower number would move devices of guests that have none.
    std::set<unsigned> ports;
    const auto add_port = [&](const auto& device) {
        if (!device.target || device.target->type != "virtio") return;
        const auto* at = device.info.template address_as<VirtioSerialAddress>();
        ports.insert(at ? at->controller : 0);
    };
    for (const auto& channel : devices.channels) add_port(channel);
    for (const auto& console : devices.consoles) add_port(console);
    for (const unsigned index : ports) ensure(config, ControllerType::virtio_serial, index, "");
    for (std::size_t i = 0; i < devices.smartcards.size(); ++i) {
        if (const auto* at = devices.smartcards[i].info.address_as<CcidAddress>())
            up_to(ControllerType::ccid, at->controller);
    }
}

void choose_models(DomainConfig& config, const Chipset& chipset, const Capabilities& capabilities) {
    for (auto& controller : config.devices.controllers) {
        const bool open = controller.type == ControllerType::scsi && controller.model == "auto";
        if (!controller.model.empty() && !open) continue;
        if (controller.type == ControllerType::usb && !chipset.usb_default.empty())
            controller.model = usb_model(chipset.usb_default, capabilities);
        if (controller.type == ControllerType::scsi) controller.model = scsi_model(chipset, capabilities);
        if (controller.type == ControllerType::pci && controller.index.value_or(0) == 0)
            controller.model = chipset.root;
    }
}

[[noreturn]] void refuse(const Controller& controller, std::string_view why) {
    throw Error{Code::unsupported_configuration, fmt::format("{}: {}", name_of(controller), why)};
}

void check_usb(const std::vector<Controller>& all, const Controller& controller) {
    const auto any_usb = [&](auto test) {
        return std::any_of(all.begin(), all.end(), [&](auto& c) { return c.type == ControllerType::usb && test(c); });
    };
    if (controller.model.empty()) refuse(controller, "this machine has no USB; a model would need PCI");
    if (controller.model == "none" && any_usb([](auto& other) { return other.model != "none"; }))
        refuse(controller, "model 'none' says that there is no USB, but there are other controllers");
    if (is_companion(controller) &&
        !any_usb([&](auto& other) { return other.index == controller.index && other.model == "ich9-ehci1"; }))
        refuse(controller, "it serves the ports of an ich9-ehci1 with the same index, which is not there");
    constexpr unsigned most_ports = 15;
    if (controller.model.ends_with("-xhci") && controller.ports.value_or(0) > most_ports)
        refuse(controller, fmt::format("it has {} ports; {} is the most", *controller.ports, most_ports));
}

void check_root(const std::vector<Controller>& all, const Controller& controller, const Chipset& chipset) {
    if (!controller.model.ends_with("-root")) return;
    if (controller.index.value_or(0) != 0 && chipset.kind != Chipset::Kind::pseries)
        refuse(controller, "this machine has one root bus, which has the index 0");
    const bool pseries = chipset.kind == Chipset::Kind::pseries, first = controller.index.value_or(0) == 0;
    if (pseries && first && controller.target && controller.target->node)
        refuse(controller, "the first host bridge is of no NUMA node; more of them may be");
    constexpr unsigned most_bridges = 31;
    if (pseries && controller.target && controller.target->index &&
        (first != (*controller.target->index == 0) || *controller.target->index > most_bridges))
        refuse(controller, fmt::format("<target index='{}'>: of the first host bridge it is 0, of others 1 to {}",
                                       *controller.target->index, most_bridges));
    if (pseries && std::any_of(all.begin(), all.end(), [&](auto& other) {
            return &other != &controller && other.type == ControllerType::pci && other.target && controller.target &&
                   controller.target->index && other.target->index == controller.target->index;
        }))
        refuse(controller, fmt::format("<target index='{}'> is that of another, too", *controller.target->index));
    if (controller.info.address) refuse(controller, "a root bus is on no other, so it has no <address>");
    const bool told = controller.target && controller.target->hotplug;
    if (told && chipset.kind != Chipset::Kind::pc)
        refuse(controller, "whether its slots are hot-pluggable can be said of the root bus of i440fx");
}

void check_models(const DomainConfig& config, const Chipset& chipset) {
    for (const auto& controller : config.devices.controllers) {
        if (controller.type == ControllerType::usb) check_usb(config.devices.controllers, controller);
        if (controller.type == ControllerType::pci) check_root(config.devices.controllers, controller, chipset);
        if (controller.type == ControllerType::pci && !is_pci_model(controller.model))
            throw Error{Code::unsupported_configuration,
                        fmt::format("{} needs a model, e.g. 'pcie-root-port'", name_of(controller))};
        if (controller.type == ControllerType::pci && controller.index.value_or(0) == 0 && chipset.pci() &&
            controller.model != chipset.root)
            throw Error{
                Code::unsupported_configuration,
                fmt::format("PCI controller 0 of this machine is a {}, not a {}", chipset.root, controller.model)};
        if (controller.type == ControllerType::ide && (!chipset.ide || controller.index.value_or(0) > 0))
            throw Error{
                Code::unsupported_configuration,
                fmt::format("{}: this machine has {}", name_of(controller),
                            chipset.ide ? "only the IDE controller 0" : "no IDE; use bus 'sata', 'scsi' or 'virtio'")};
        if (controller.type == ControllerType::fdc && !chipset.isa)
            throw Error{Code::unsupported_configuration, "this machine has no floppy drives"};
        if (controller.type == ControllerType::fdc && controller.index.value_or(0) > 0)
            throw Error{Code::unsupported_configuration, "a machine has only one floppy controller"};
    }
}

/// pseries' host bridges have a number of their own, from which their places in memory follow.
unsigned next_bridge(const std::vector<Controller>& all) {
    unsigned number = 1;
    const auto taken = [&](const Controller& other) { return other.target && other.target->index == number; };
    while (std::any_of(all.begin(), all.end(), taken)) ++number;
    return number;
}

}  // namespace

void complete_controllers(DomainConfig& config, const Chipset& chipset, const Capabilities& capabilities) {
    number(config);
    sort(config.devices);
    const bool says_usb = std::any_of(config.devices.controllers.begin(), config.devices.controllers.end(),
                                      [](auto& c) { return c.type == ControllerType::usb; });
    if (!says_usb && !chipset.usb.empty())
        add(config, ControllerType::usb, 0, usb_model(chipset.usb, capabilities));
    else if (!says_usb && has_usb_devices(config))
        add(config, ControllerType::usb, 0, chipset.usb_default.empty() ? "qemu-xhci" : chipset.usb_default);
    if (chipset.sata) ensure(config, ControllerType::sata, 0, "");
    if (chipset.pci()) ensure(config, ControllerType::pci, 0, chipset.root);
    add_for_devices(config);
    choose_models(config, chipset, capabilities);
    check_numbers(config);
    check_models(config, chipset);
}

void complete_pci_controllers(DomainConfig& config, const Chipset& chipset) {
    struct Name {
        std::string_view model, device;
    };
    constexpr Name names[]{{"pci-bridge", "pci-bridge"},
                           {"dmi-to-pci-bridge", "i82801b11-bridge"},
                           {"pcie-to-pci-bridge", "pcie-pci-bridge"},
                           {"pcie-root-port", "pcie-root-port"},
                           {"pcie-switch-upstream-port", "x3130-upstream"},
                           {"pcie-switch-downstream-port", "xio3130-downstream"},
                           {"pci-expander-bus", "pxb"},
                           {"pcie-expander-bus", "pxb-pcie"}};
    std::set<unsigned> bus_numbers;
    for (auto& controller : config.devices.controllers) {
        if (controller.type != ControllerType::pci) continue;
        const unsigned index = controller.index.value_or(0);
        for (const auto& name : names)
            if (controller.model == name.model && controller.model_name.empty()) controller.model_name = name.device;
        const auto target = [&]() -> ControllerTarget& {
            return controller.target ? *controller.target : controller.target.emplace();
        };
        if (controller.model == "pcie-root-port" || controller.model == "pcie-switch-downstream-port") {
            const auto* at = controller.info.address_as<PciAddress>();
            if (!target().chassis) target().chassis = index;
            const bool below_switch = controller.model == "pcie-switch-downstream-port";
            if (!target().port && at) target().port = below_switch ? at->slot : (at->slot << 3) + at->function;
        }
        if (controller.model == "pci-bridge" && !target().chassis_nr) target().chassis_nr = index;
        if (controller.model.ends_with("expander-bus") && !target().bus_nr)
            target().bus_nr = 256 - 2 * static_cast<unsigned>(bus_numbers.size() + 1);
        if (controller.model.ends_with("expander-bus")) bus_numbers.insert(*target().bus_nr);
        if (chipset.kind == Chipset::Kind::pseries && controller.model == "pci-root") {
            if (controller.model_name.empty()) controller.model_name = "spapr-pci-host-bridge";
            if (!target().index) target().index = index == 0 ? 0 : next_bridge(config.devices.controllers);
        }
    }
}

}  // namespace virtbus::qemu
