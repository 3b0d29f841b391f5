// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/pci_devices.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "qemu/device_list.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

/// Collects the needs; knows what "express" and "conventional" mean on this machine.
class Needs {
public:
    explicit Needs(const Chipset& chipset)
        : pci_{pci_device | hotpluggable},
          pcie_{chipset.pcie() ? pcie_device | hotpluggable : pci_},
          only_pci_{chipset.kind == Chipset::Kind::pc || chipset.kind == Chipset::Kind::q35} {}

    void add(DeviceInfo& info, unsigned connects, std::string name) {
        if (connects == 0) return;
        if (info.address && !info.address_as<PciAddress>()) {
            if (only_pci_ && !info.address_as<UnassignedAddress>())
                throw Error{Code::unsupported_configuration,
                            fmt::format("{}: its <address> is of another type than 'pci'", name)};
            return;
        }
        out.push_back({&info, connects, std::move(name)});
    }
    unsigned pci() const { return pci_; }
    unsigned pcie() const { return pcie_; }
    /// Transitional virtio devices have I/O ports, which root ports do not hand on.
    unsigned virtio(std::string_view model) const {
        return model.ends_with("-transitional") && !model.ends_with("non-transitional") ? pci_ : pcie_;
    }

    std::vector<PciNeed> out;

private:
    unsigned pci_, pcie_;
    bool only_pci_;  ///< others may have a transport of their own for these
};

unsigned need_of(const Controller& controller, const Needs& needs, const Chipset& chipset) {
    const std::string& model = controller.model;
    switch (controller.type) {
        case ControllerType::usb:
            if (model == "none") return 0;
            return model == "qemu-xhci" || model == "nec-xhci" ? needs.pcie() : needs.pci();
        case ControllerType::ide:
            return chipset.ide && controller.index.value_or(0) == 0 ? pci_device : 0;
        case ControllerType::sata:
            return needs.pci();
        case ControllerType::scsi:
            if (model == "ibmvscsi") return 0;
            return is_virtio_model(model) ? needs.virtio(model) : needs.pci();
        case ControllerType::virtio_serial:
            return needs.virtio(model);
        case ControllerType::nvme:
            return needs.pcie();
        default:
            return 0;
    }
}

unsigned need_of(const Interface& interface, const Needs& needs) {
    const std::string& model = interface.model;
    if (actual_type(interface) == InterfaceType::hostdev) return needs.pcie();
    if (model == "usb-net" || model.starts_with("spapr-vlan") || model == "ne2k_isa" || model == "lan9118") return 0;
    if (is_virtio_model(model)) return needs.virtio(model);
    return model == "e1000e" || model == "igb" || model == "vmxnet3" ? needs.pcie() : needs.pci();
}

unsigned need_of(const Sound& sound, const Needs& needs) {
    if (sound.model == "sb16" || sound.model == "pcspk" || sound.model == "usb") return 0;
    return sound.model == "virtio" ? needs.pcie() : needs.pci();
}

unsigned need_of(const Video& video, const Needs& needs) {
    const std::string& type = video.model.type;
    if (type == "none" || type == "ramfb" || type.empty()) return 0;
    return type == "virtio" || type == "bochs" ? needs.pcie() : needs.pci();
}

void add_disks_and_below(DomainConfig& config, Needs& needs) {
    Devices& devices = config.devices;
    for (auto& disk : devices.disks)
        if (disk.target.bus == "virtio") needs.add(disk.info, needs.virtio(disk.model), name_of(disk));
    for (auto& hostdev : devices.hostdevs) {
        const bool pci = hostdev.type == HostdevType::pci || hostdev.type == HostdevType::scsi_host ||
                         (hostdev.type == HostdevType::mdev && (hostdev.model.empty() || hostdev.model == "vfio-pci"));
        if (pci && hostdev.mode == "subsystem") needs.add(hostdev.info, needs.pcie(), "hostdev");
    }
    if (auto& balloon = devices.memballoon; balloon && balloon->model != "none")
        needs.add(balloon->info, needs.virtio(balloon->model), "memballoon");
    for (auto& rng : devices.rngs) needs.add(rng.info, needs.virtio(rng.model), "rng");
    for (auto& watchdog : devices.watchdogs)
        if (watchdog.model == "i6300esb") needs.add(watchdog.info, needs.pci(), "watchdog");
    for (auto& video : devices.videos) needs.add(video.info, need_of(video, needs), "video card");
    for (auto& shmem : devices.shmems) needs.add(shmem.info, needs.pci(), "shmem '" + shmem.name + "'");
    for (auto& input : devices.inputs)
        if (input.bus == "virtio") needs.add(input.info, needs.virtio(input.model), "input device");
    for (auto& serial : devices.serials)
        if (serial.target && serial.target->type == "pci-serial") needs.add(serial.info, needs.pci(), "serial port");
    if (devices.vsock) needs.add(devices.vsock->info, needs.virtio(devices.vsock->model), "vsock");
    for (auto& memory : devices.memories)
        if (is_virtio_model(memory.model)) needs.add(memory.info, needs.pcie(), "memory device");
    for (auto& iommu : devices.iommus)
        if (iommu.model == "virtio") needs.add(iommu.info, pcie_device | pci_device | integrated, "iommu");
    for (auto& crypto : devices.cryptos) needs.add(crypto.info, needs.pcie(), "crypto device");
    for (auto& panic : devices.panics)
        if (panic.model == "pvpanic") needs.add(panic.info, needs.pcie(), "panic device");
    if (devices.pstore) needs.add(devices.pstore->info, needs.pci(), "pstore");
}

// ---- the places of the chipsets

PciAddress at(unsigned slot, unsigned function) {
    PciAddress address;
    address.slot = slot;
    address.function = function;
    return address;
}

bool has_place(const DeviceInfo& info) {
    const auto* address = info.address_as<PciAddress>();
    return info.address && (!address || address->assigned());
}

/// Puts the device there unless it has a place or somebody else is there.
bool place(DeviceInfo& info, const PciAddress& address, Topology& topology, const std::string& name) {
    if (has_place(info) || !topology.is_free(address)) return false;
    topology.take(address, name);
    info.address = address;
    return true;
}

bool is_at(const DeviceInfo& info, const PciAddress& address) {
    const auto* own = info.address_as<PciAddress>();
    return own && std::tie(own->domain, own->bus, own->slot, own->function) ==
                      std::tie(address.domain, address.bus, address.slot, address.function);
}

/// Nobody else may be there than `own`, which is the definition's word for what the chipset has there.
void keep(const PciAddress& address, Topology& topology, const Controller* own = nullptr) {
    if (!own || !is_at(own->info, address)) topology.take(address, "the chipset");
}

void place_video(DomainConfig& config, Topology& topology, unsigned slot) {
    for (auto& video : config.devices.videos) {
        if (!video.model.primary.value_or(false) || video.model.type == "none" || video.model.type == "ramfb") continue;
        if (topology.slot_is_free(0, slot)) place(video.info, at(slot, 0), topology, "video card");
    }
}

Controller* find_controller(DomainConfig& config, ControllerType type, std::string_view model) {
    for (auto& controller : config.devices.controllers)
        if (controller.type == type && controller.index.value_or(0) == 0 &&
            (model.empty() || controller.model == model))
            return &controller;
    return nullptr;
}

void take_pc_places(DomainConfig& config, Topology& topology) {
    auto* ide = find_controller(config, ControllerType::ide, "");
    if (ide) place(ide->info, at(1, 1), topology, name_of(*ide));
    if (auto* usb = find_controller(config, ControllerType::usb, "piix3-uhci"))
        place(usb->info, at(1, 2), topology, name_of(*usb));
    keep(at(1, 0), topology);
    keep(at(1, 1), topology, ide);
    if (topology.is_free(at(1, 3))) keep(at(1, 3), topology);  // there with ACPI only
    place_video(config, topology, 2);
}

/// The ICH9's two sets of USB controllers: functions of the slots 1d and 1a.
void take_ich9_usb_places(DomainConfig& config, Topology& topology) {
    struct Function {
        std::string_view model;
        unsigned function;
    };
    constexpr std::array functions{Function{"ich9-ehci1", 7}, Function{"ich9-uhci1", 0}, Function{"ich9-uhci2", 1},
                                   Function{"ich9-uhci3", 2}};
    constexpr std::array slots{0x1du, 0x1au};
    std::vector<unsigned> sets;  // indexes of USB buses, in the order found
    for (auto& controller : config.devices.controllers) {
        const auto known =
            std::find_if(functions.begin(), functions.end(), [&](auto& f) { return f.model == controller.model; });
        if (controller.type != ControllerType::usb || known == functions.end()) continue;
        const unsigned index = controller.index.value_or(0);
        auto set = std::find(sets.begin(), sets.end(), index);
        if (set == sets.end()) set = sets.insert(set, index);
        const auto number = static_cast<std::size_t>(set - sets.begin());
        if (number < slots.size())
            place(controller.info, at(slots[number], known->function), topology, name_of(controller));
    }
}

void take_q35_places(DomainConfig& config, Topology& topology) {
    auto* sata = find_controller(config, ControllerType::sata, "");
    if (sata) place(sata->info, at(0x1f, 2), topology, name_of(*sata));
    keep(at(0x1f, 0), topology);
    keep(at(0x1f, 2), topology, sata);
    keep(at(0x1f, 3), topology);
    take_ich9_usb_places(config, topology);
    for (auto& controller : config.devices.controllers)
        if (controller.model == "dmi-to-pci-bridge" && topology.slot_is_free(0, 0x1e))
            place(controller.info, at(0x1e, 0), topology, name_of(controller));
    for (auto& sound : config.devices.sounds)
        if (sound.model == "ich9" && topology.slot_is_free(0, 0x1b))
            place(sound.info, at(0x1b, 0), topology, "sound card");
    place_video(config, topology, 1);
}

}  // namespace

bool is_virtio_model(std::string_view model) {
    return model == "virtio" || model.starts_with("virtio-");
}

std::vector<PciNeed> pci_needs(DomainConfig& config, const Chipset& chipset) {
    Needs needs{chipset};
    Devices& devices = config.devices;
    for (auto& controller : devices.controllers)
        if (controller.type == ControllerType::pci)
            needs.add(controller.info, connect_of_model(controller.model), name_of(controller));
    for (auto& filesystem : devices.filesystems)
        needs.add(filesystem.info, needs.virtio(filesystem.model), "filesystem '" + filesystem.target_dir + "'");
    for (auto& interface : devices.interfaces) needs.add(interface.info, need_of(interface, needs), name_of(interface));
    for (auto& sound : devices.sounds) needs.add(sound.info, need_of(sound, needs), "sound card");
    for (auto& controller : devices.controllers)
        needs.add(controller.info, need_of(controller, needs, chipset), name_of(controller));
    add_disks_and_below(config, needs);
    return std::move(needs.out);
}

void take_chipset_places(DomainConfig& config, const Chipset& chipset, Topology& topology) {
    if (topology.size() == 0) return;
    if (chipset.kind == Chipset::Kind::pc) take_pc_places(config, topology);
    if (chipset.kind == Chipset::Kind::q35) take_q35_places(config, topology);
}

}  // namespace virtbus::qemu
