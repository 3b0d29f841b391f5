// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/addresses.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <tuple>

#include "qemu/device_list.hpp"
#include "qemu/pci_devices.hpp"
#include "qemu/usb_addresses.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

// ---- drives

struct DriveBus {
    std::string_view bus;
    unsigned units;      // of one controller
    unsigned per_bus;    // of one bus of the controller
    unsigned kept_unit;  // the controller's own; 0 = none
};
constexpr DriveBus drive_buses[]{{"ide", 4, 2, 0}, {"sata", 6, 6, 0}, {"scsi", 15, 15, 7}, {"fdc", 2, 2, 0}};

const DriveBus* find_drive_bus(std::string_view bus) {
    const auto found =
        std::find_if(std::begin(drive_buses), std::end(drive_buses), [&](auto& b) { return b.bus == bus; });
    return found == std::end(drive_buses) ? nullptr : found;
}

DriveAddress drive_of(unsigned index, const DriveBus& bus) {
    DriveAddress address;
    address.controller = index / bus.units;
    address.bus = index % bus.units / bus.per_bus;
    address.unit = index % bus.units % bus.per_bus;
    if (bus.kept_unit && address.unit >= bus.kept_unit) ++address.unit;
    return address;
}

/// The place of "nvme1n2": the second namespace of controller 1.
DriveAddress namespace_of(const Disk& disk) {
    DriveAddress address;
    unsigned controller = 0, number = 0;
    char rest = 0;
    if (std::sscanf(disk.target.dev.c_str(), "nvme%3un%3u%c", &controller, &number, &rest) != 2 || number == 0)
        refuse(fmt::format("{}: its target on the bus 'nvme' is called like 'nvme0n1'", name_of(disk)));
    address.controller = controller;
    address.unit = number - 1;
    return address;
}

using Drive = std::tuple<std::string, unsigned, unsigned, unsigned, unsigned>;

/// The limits of the bus itself; those of a model of SCSI controller are its command's.
void require_place(const std::string& bus, const DriveAddress& at, const std::string& name) {
    const DriveBus* limits = find_drive_bus(bus);
    if (!limits) return;
    const unsigned buses = limits->units / limits->per_bus;
    if (at.bus >= buses)
        refuse(fmt::format("{}: it is on bus {} of its controller; one of '{}' has {}", name, at.bus, bus, buses));
    if (bus == "scsi") return;
    if (at.target) refuse(fmt::format("{}: it is at target {}; on the bus '{}' that is 0", name, at.target, bus));
    if (at.unit >= limits->per_bus)
        refuse(fmt::format("{}: it is at unit {}; a bus of '{}' has the units 0 to {}", name, at.unit, bus,
                           limits->per_bus - 1));
}

void take_drive(std::map<Drive, std::string>& taken, const std::string& bus, const DriveAddress& at,
                const std::string& name) {
    require_place(bus, at, name);
    const auto [there, fresh] = taken.emplace(Drive{bus, at.controller, at.bus, at.target, at.unit}, name);
    if (!fresh)
        refuse(fmt::format("{} and {} are both at {} controller {}, bus {}, target {}, unit {}", there->second, name,
                           bus, at.controller, at.bus, at.target, at.unit));
}

// ---- PCI

/// The machine's PCI buses with every place that the definition and the chipset choose.
Topology build_topology(DomainConfig& config, const Chipset& chipset) {
    Topology topology{chipset};
    for (const auto& controller : config.devices.controllers)
        if (controller.type == ControllerType::pci) topology.add_bus(controller.index.value_or(0), controller.model);
    const auto needs = pci_needs(config, chipset);
    unsigned last = 0;
    for (const auto& need : needs)
        if (const auto* address = need.info->address_as<PciAddress>(); address && address->domain == 0)
            last = std::max(last, address->bus);
    for (const auto& controller : config.devices.controllers)
        if (controller.type == ControllerType::pci) last = std::max(last, controller.index.value_or(0));
    if (last > 255) refuse(fmt::format("PCI bus {} does not exist; there are 256 at most", last));
    topology.grow_to(last);
    for (const auto& need : needs) {
        const auto* address = need.info->address_as<PciAddress>();
        if (!address || !address->assigned()) continue;
        topology.require_fits(*address, need.connects, need.name);
        topology.take(*address, need.name);
        if (need.connects & shares_slot) topology.share(*address);
    }
    take_chipset_places(config, chipset, topology);
    return topology;
}

/// Places of one USB 2 set share a slot; the first one found decides it.
bool join_companions(DomainConfig& config, DeviceInfo& info, Topology& topology, const std::string& name) {
    const auto function_of = [](std::string_view model) {
        return model == "ich9-ehci1"   ? 7u
               : model == "ich9-uhci1" ? 0u
               : model == "ich9-uhci2" ? 1u
               : model == "ich9-uhci3" ? 2u
                                       : 8u;
    };
    auto& controllers = config.devices.controllers;
    const auto self = std::find_if(controllers.begin(), controllers.end(), [&](auto& c) { return &c.info == &info; });
    if (self == controllers.end() || function_of(self->model) == 8) return false;
    PciAddress place;
    const auto sibling = std::find_if(controllers.begin(), controllers.end(), [&](auto& c) {
        const auto* address = c.info.template address_as<PciAddress>();
        return c.type == ControllerType::usb && c.index == self->index && function_of(c.model) != 8 && address &&
               address->assigned();
    });
    if (sibling != controllers.end()) {
        place = *sibling->info.address_as<PciAddress>();
    } else {
        // Find a slot; the place is given back by taking the set's own function of it.
        Topology trial = topology;
        place = trial.next(pci_device | hotpluggable, name);
        for (auto bus = static_cast<unsigned>(topology.size()); bus < trial.size(); ++bus)
            topology.add_bus(bus, trial.model(bus));
    }
    place.multifunction.reset();
    place.function = function_of(self->model);
    if (!topology.is_free(place)) return false;
    topology.take(place, name);
    info.address = place;
    return true;
}

void place_devices(DomainConfig& config, const Chipset& chipset, Topology& topology) {
    for (const auto& need : pci_needs(config, chipset)) {
        const auto* address = need.info->address_as<PciAddress>();
        if (address && address->assigned()) continue;
        if (join_companions(config, *need.info, topology, need.name)) continue;
        PciAddress chosen = address ? *address : PciAddress{};
        const PciAddress found = topology.next(need.connects, need.name);
        std::tie(chosen.bus, chosen.slot, chosen.function) = std::tuple{found.bus, found.slot, found.function};
        need.info->address = chosen;
    }
}

unsigned count_pci_controllers(const DomainConfig& config) {
    return static_cast<unsigned>(std::count_if(config.devices.controllers.begin(), config.devices.controllers.end(),
                                               [](auto& c) { return c.type == ControllerType::pci; }));
}

/// A trial on a copy, to learn how many buses it takes.
Topology try_out(DomainConfig trial, const Chipset& chipset) {
    const bool only_root = count_pci_controllers(trial) <= 1;
    Topology topology = build_topology(trial, chipset);
    const std::size_t before = topology.size();
    // One place is held back for a bridge that a later device may need.
    if (!chipset.pcie() && !topology.full()) topology.next(pci_device | hotpluggable, "a later bridge");
    place_devices(trial, chipset, topology);
    // A definition that leaves the buses to us gets one free port for hotplug.
    if (chipset.pcie() && only_root && topology.size() > before) topology.next(pcie_device | hotpluggable, "hotplug");
    return topology;
}

void add_buses(DomainConfig& config, const Topology& topology) {
    auto& controllers = config.devices.controllers;
    for (unsigned index = 0; index < topology.size(); ++index) {
        const bool there = std::any_of(controllers.begin(), controllers.end(), [&](auto& c) {
            return c.type == ControllerType::pci && c.index.value_or(0) == index;
        });
        if (there) continue;
        Controller controller;
        controller.type = ControllerType::pci;
        controller.index = index;
        controller.model = topology.model(index);
        insert_controller(config.devices, std::move(controller));
    }
}

void mark_multifunction(DomainConfig& config, const Chipset& chipset, const Topology& topology) {
    for (const auto& need : pci_needs(config, chipset))
        if (auto* address = need.info->address_as<PciAddress>())
            if (address->function == 0 && !address->multifunction && topology.has_functions(*address))
                address->multifunction = true;
}

void assign_pci(DomainConfig& config, const Chipset& chipset) {
    add_buses(config, try_out(config, chipset));
    // New buses take places themselves, which may leave too few for the devices; then more buses come.
    for (;;) {
        Topology topology = build_topology(config, chipset);
        place_devices(config, chipset, topology);
        if (topology.size() <= count_pci_controllers(config)) return mark_multifunction(config, chipset, topology);
        add_buses(config, topology);
    }
}

// ---- the other transports of virtio, and pseries' own bus

/// In the order in which libvirt gives out CCW device numbers.
template <class Each>
void each_virtio(DomainConfig& config, Each each) {
    Devices& devices = config.devices;
    for (auto& disk : devices.disks)
        if (disk.target.bus == "virtio") each(disk.info, name_of(disk));
    for (auto& interface : devices.interfaces)
        if (is_virtio_model(interface.model)) each(interface.info, name_of(interface));
    for (auto& hostdev : devices.hostdevs)
        if (hostdev.type == HostdevType::scsi_host || hostdev.model == "vfio-ccw") each(hostdev.info, "hostdev");
    for (auto& filesystem : devices.filesystems) each(filesystem.info, "filesystem '" + filesystem.target_dir + "'");
    for (auto& controller : devices.controllers)
        if (controller.type == ControllerType::virtio_serial ||
            (controller.type == ControllerType::scsi && is_virtio_model(controller.model)))
            each(controller.info, name_of(controller));
    for (auto& input : devices.inputs)
        if (input.bus == "virtio") each(input.info, "input device");
    for (auto& video : devices.videos)
        if (video.model.type == "virtio") each(video.info, "video card");
    if (devices.memballoon && devices.memballoon->model != "none") each(devices.memballoon->info, "memballoon");
    for (auto& rng : devices.rngs) each(rng.info, "rng");
    if (devices.vsock) each(devices.vsock->info, "vsock");
    for (auto& crypto : devices.cryptos) each(crypto.info, "crypto device");
}

void assign_ccw(DomainConfig& config) {
    std::map<unsigned, std::string> taken;
    each_virtio(config, [&](DeviceInfo& info, const std::string& name) {
        const auto* address = info.address_as<CcwAddress>();
        if (!address || !address->devno) return;
        const auto [there, fresh] = taken.emplace(address->ssid.value_or(0) << 16 | *address->devno, name);
        if (!fresh)
            refuse(
                fmt::format("{} and {} are both at CCW device number {:#06x}", there->second, name, *address->devno));
    });
    unsigned next = 0;
    each_virtio(config, [&](DeviceInfo& info, const std::string& name) {
        auto* address = info.address_as<CcwAddress>();
        if (info.address && (!address || address->devno)) return;
        while (taken.contains(next)) ++next;
        if (next > 0xffff) refuse("there are more than 65536 CCW devices");
        taken.emplace(next, name);
        CcwAddress chosen;
        chosen.cssid = 0xfe;
        chosen.ssid = 0;
        chosen.devno = next;
        info.address = chosen;
    });
}

/// What a PCI device is called by the firmware of s390x.
void assign_zpci(DomainConfig& config, const Chipset& chipset) {
    std::set<unsigned> uids, fids;
    const auto each = [&](auto act) {
        for (const auto& need : pci_needs(config, chipset))
            if (auto* address = need.info->address_as<PciAddress>()) act(*address, need.name);
    };
    each([&](const PciAddress& address, const std::string& name) {
        if (address.zpci_uid && !uids.insert(*address.zpci_uid).second)
            refuse(fmt::format("{} has the zpci uid {:#06x} of another device", name, *address.zpci_uid));
        if (address.zpci_fid && !fids.insert(*address.zpci_fid).second)
            refuse(fmt::format("{} has the zpci fid {:#010x} of another device", name, *address.zpci_fid));
    });
    const auto next = [](std::set<unsigned>& taken, unsigned first) {
        while (!taken.insert(first).second) ++first;
        return first;
    };
    each([&](PciAddress& address, const std::string&) {
        if (!address.zpci_uid) address.zpci_uid = next(uids, 1);
        if (!address.zpci_fid) address.zpci_fid = next(fids, 0);
    });
}

void assign_mmio(DomainConfig& config, const Chipset& chipset) {
    each_virtio(config, [&](DeviceInfo& info, const std::string& name) {
        if (chipset.kind == Chipset::Kind::isapc)
            refuse(fmt::format("{}: virtio devices need PCI, which this machine has not", name));
        if (!info.address) info.address = VirtioMmioAddress{};
    });
}

void assign_spapr_vio(DomainConfig& config) {
    std::map<std::uint64_t, std::string> taken;
    const auto assign = [&](DeviceInfo& info, std::uint64_t first, const std::string& name) {
        if (info.address && !info.address_as<SpaprVioAddress>()) return;
        const auto* said = info.address_as<SpaprVioAddress>();
        std::uint64_t reg = said && said->reg ? *said->reg : first;
        while (!(said && said->reg) && taken.contains(reg)) reg += 0x1000;
        const auto [there, fresh] = taken.emplace(reg, name);
        if (!fresh) refuse(fmt::format("{} and {} are both at spapr-vio register {:#x}", there->second, name, reg));
        SpaprVioAddress chosen;
        chosen.reg = reg;
        info.address = chosen;
    };
    for (auto& interface : config.devices.interfaces)
        if (interface.model.starts_with("spapr-vlan")) assign(interface.info, 0x1000, name_of(interface));
    for (auto& controller : config.devices.controllers)
        if (controller.model == "ibmvscsi") assign(controller.info, 0x2000, name_of(controller));
    if (config.devices.nvram) assign(config.devices.nvram->info, 0x3000, "nvram");
    for (auto& serial : config.devices.serials)
        if (serial.target && serial.target->type == "spapr-vio-serial") assign(serial.info, 0x30000000, "serial port");
}

// ---- virtio-serial, ccid, dimm

/// Ports of serial-like controllers; adds a controller when all are full.
class SerialPorts {
public:
    explicit SerialPorts(DomainConfig& config) : config_{config} {}

    void take(const VirtioSerialAddress& at, const std::string& name) {
        const auto [there, fresh] = taken_.emplace(std::pair{at.controller, at.port}, name);
        if (!fresh)
            refuse(fmt::format("{} and {} are both at port {} of virtio-serial controller {}", there->second, name,
                               at.port, at.controller));
        if (at.port >= ports(at.controller))
            refuse(fmt::format("{} is at port {}, but virtio-serial controller {} has the ports 0 to {}", name, at.port,
                               at.controller, ports(at.controller) - 1));
    }
    VirtioSerialAddress next(const std::string& name, std::optional<unsigned> controller) {
        VirtioSerialAddress at;
        for (at.controller = controller.value_or(0);; ++at.controller) {
            for (at.port = 1; at.port < ports(at.controller); ++at.port)
                if (taken_.emplace(std::pair{at.controller, at.port}, name).second) return at;
            if (controller)
                refuse(fmt::format("virtio-serial controller {} has no free port for {}", *controller, name));
        }
    }

private:
    unsigned ports(unsigned index) {
        for (const auto& controller : config_.devices.controllers)
            if (controller.type == ControllerType::virtio_serial && controller.index.value_or(0) == index)
                return std::max(controller.ports.value_or(31), 2u);
        Controller controller;
        controller.type = ControllerType::virtio_serial;
        controller.index = index;
        config_.devices.controllers.push_back(std::move(controller));
        return 31;
    }

    DomainConfig& config_;
    std::map<std::pair<unsigned, unsigned>, std::string> taken_;
};

void assign_virtio_serial(DomainConfig& config) {
    std::vector<DeviceRef> users;
    for (auto& channel : config.devices.channels)
        if (channel.target && channel.target->type == "virtio")
            users.push_back({&channel.info, "channel '" + channel.target->name + "'"});
    for (auto& console : config.devices.consoles)
        if (console.target && console.target->type == "virtio") users.push_back({&console.info, "console"});
    SerialPorts ports{config};
    for (const auto& user : users)
        if (const auto* at = user.info->address_as<VirtioSerialAddress>(); at && at->port) ports.take(*at, user.name);
    for (const auto& user : users) {
        const auto* at = user.info->address_as<VirtioSerialAddress>();
        if (at && at->port) continue;
        user.info->address = ports.next(user.name, at ? std::optional{at->controller} : std::nullopt);
    }
}

void assign_ccid(DomainConfig& config) {
    std::set<std::pair<unsigned, unsigned>> taken;
    for (auto& card : config.devices.smartcards)
        if (const auto* at = card.info.address_as<CcidAddress>())
            if (!taken.emplace(at->controller, at->slot).second)
                refuse(fmt::format("two smartcards are in slot {} of ccid controller {}", at->slot, at->controller));
    for (auto& card : config.devices.smartcards) {
        if (card.info.address) continue;
        CcidAddress at;
        while (!taken.emplace(at.controller, at.slot).second) ++at.controller;  // one slot each
        card.info.address = at;
    }
}

void assign_dimm_slots(DomainConfig& config) {
    std::set<unsigned> taken;
    for (auto& memory : config.devices.memories)
        if (const auto* at = memory.info.address_as<DimmAddress>(); at && at->slot && !taken.insert(*at->slot).second)
            refuse(fmt::format("two memory devices are in slot {}", *at->slot));
    for (auto& memory : config.devices.memories) {
        auto* at = memory.info.address_as<DimmAddress>();
        if ((memory.model != "dimm" && memory.model != "nvdimm") || (at && at->slot)) continue;
        unsigned slot = 0;
        while (!taken.insert(slot).second) ++slot;
        DimmAddress chosen = at ? *at : DimmAddress{};
        chosen.slot = slot;
        memory.info.address = chosen;
    }
}

}  // namespace

int index_of_target(std::string_view target) {
    static constexpr std::string_view prefixes[]{"xvd", "ubd", "vd", "sd", "hd", "fd"};
    for (const auto prefix : prefixes) {
        if (!target.starts_with(prefix) || target.size() == prefix.size() || target.size() > prefix.size() + 4)
            continue;
        int index = 0;
        for (const char letter : target.substr(prefix.size())) {
            if (letter < 'a' || letter > 'z') return -1;
            index = index * 26 + (letter - 'a' + 1);
        }
        return index - 1;
    }
    return -1;
}

void assign_drive_addresses(DomainConfig& config) {
    std::map<Drive, std::string> taken;
    for (const auto& disk : config.devices.disks)
        if (const auto* at = disk.info.address_as<DriveAddress>())
            take_drive(taken, disk.target.bus, *at, name_of(disk));
    for (const auto& hostdev : config.devices.hostdevs)
        if (const auto* at = hostdev.info.address_as<DriveAddress>()) take_drive(taken, "scsi", *at, "hostdev");
    for (auto& disk : config.devices.disks) {
        if (disk.target.bus == "nvme" && !disk.info.address) {
            disk.info.address = namespace_of(disk);
            take_drive(taken, disk.target.bus, *disk.info.address_as<DriveAddress>(), name_of(disk));
        }
        const DriveBus* bus = find_drive_bus(disk.target.bus);
        if (!bus || disk.info.address) continue;
        const int index = index_of_target(disk.target.dev);
        if (index < 0) refuse(fmt::format("{}: no place can be derived from its target's name", name_of(disk)));
        const DriveAddress at = drive_of(static_cast<unsigned>(index), *bus);
        take_drive(taken, disk.target.bus, at, name_of(disk));
        disk.info.address = at;
    }
    assign_ccid(config);
    for (auto& hostdev : config.devices.hostdevs) {
        if (hostdev.type != HostdevType::scsi || hostdev.info.address) continue;
        for (unsigned index = 0; !hostdev.info.address; ++index) {
            const DriveAddress at = drive_of(index, *find_drive_bus("scsi"));
            if (taken.emplace(Drive{"scsi", at.controller, at.bus, at.target, at.unit}, "hostdev").second)
                hostdev.info.address = at;
        }
    }
}

void assign_addresses(DomainConfig& config, const Chipset& chipset) {
    assign_virtio_serial(config);
    assign_dimm_slots(config);
    assign_usb_addresses(config);
    if (chipset.kind == Chipset::Kind::pseries) assign_spapr_vio(config);
    if (chipset.kind == Chipset::Kind::s390) assign_ccw(config);
    if (!chipset.pci()) assign_mmio(config, chipset);
    if (chipset.pci()) assign_pci(config, chipset);
    if (chipset.kind == Chipset::Kind::s390) assign_zpci(config, chipset);
}

}  // namespace virtbus::qemu
