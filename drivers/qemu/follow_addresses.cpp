// SPDX-License-Identifier: LGPL-2.1-or-later
// The part of addresses.hpp that looks back: the same device keeps its place when a definition is replaced.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "qemu/addresses.hpp"
#include "qemu/device_list.hpp"

namespace virtbus::qemu {

namespace {

/// What makes a device the same one in two definitions. Those that are alike count by their order.
class Identities {
public:
    explicit Identities(Devices& devices) {
        for (auto& disk : devices.disks) add(disk.info, fmt::format("disk {} {}", disk.target.bus, disk.target.dev));
        for (auto& c : devices.controllers)
            add(c.info, fmt::format("controller {} {} {}", word(c.type), c.index.value_or(0), c.model));
        for (auto& i : devices.interfaces) add(i.info, fmt::format("interface {} {}", i.mac, i.model));
        for (auto& f : devices.filesystems) add(f.info, "filesystem " + f.target_dir);
        for (auto& s : devices.shmems) add(s.info, "shmem " + s.name);
        for (auto& c : devices.channels)
            add(c.info, c.target ? fmt::format("channel {} {}", c.target->type, c.target->name) : "channel");
        for (auto& i : devices.inputs) add(i.info, fmt::format("input {} {}", i.type, i.bus));
        for (auto& s : devices.sounds) add(s.info, "sound " + s.model);
        for (auto& v : devices.videos) add(v.info, "video " + v.model.type);
        for (auto& h : devices.hostdevs) add(h.info, "hostdev " + text_of(h));
        for (auto& r : devices.rngs) add(r.info, fmt::format("rng {} {}", r.model, r.backend.path));
        for (auto& w : devices.watchdogs) add(w.info, "watchdog " + w.model);
        for (auto& m : devices.memories) add(m.info, fmt::format("memory {} {}", m.model, m.target.size));
        for (auto& i : devices.iommus) add(i.info, "iommu " + i.model);
        for (auto& s : devices.serials) add(s.info, s.target ? "serial " + s.target->type : "serial");
        for (auto& c : devices.consoles) add(c.info, c.target ? "console " + c.target->type : "console");
        add_list(devices.smartcards, "smartcard");
        add_list(devices.redirdevs, "redirdev");
        add_list(devices.hubs, "hub");
        add_list(devices.panics, "panic");
        add_list(devices.cryptos, "crypto");
        if (devices.memballoon) add(devices.memballoon->info, "memballoon");
        if (devices.vsock) add(devices.vsock->info, "vsock");
        if (devices.nvram) add(devices.nvram->info, "nvram");
        if (devices.pstore) add(devices.pstore->info, "pstore");
    }

    std::map<std::string, DeviceInfo*> found;

private:
    template <class List>
    void add_list(List& list, const char* kind) {
        for (auto& device : list) add(device.info, kind);
    }
    void add(DeviceInfo& info, std::string key) {
        const auto number = counts_[key]++;
        found.emplace(fmt::format("{} #{}", key, number), &info);
    }
    static std::string text_of(const HostPciAddress& a) {
        return fmt::format(" {} {} {} {}", a.domain, a.bus, a.slot, a.function);
    }
    static std::string text_of(const HostUsbAddress& a) {
        return fmt::format(" {} {} {}", a.bus.value_or(0), a.device.value_or(0), a.port);
    }
    static std::string text_of(const HostScsiAddress& a) { return fmt::format(" {} {} {}", a.bus, a.target, a.unit); }
    static std::string text_of(const HostMdevAddress& a) { return " " + a.uuid; }
    static std::string text_of(const Hostdev& hostdev) {
        std::string out{word(hostdev.type)};
        if (const auto& address = hostdev.source.address)
            out += std::visit([](auto& a) { return text_of(a); }, *address);
        return out + fmt::format(" {} {}", hostdev.source.vendor_id.value_or(0), hostdev.source.product_id.value_or(0));
    }
    std::map<std::string, unsigned> counts_;
};

bool is_chosen(const std::optional<Address>& address) {
    if (!address) return false;
    const auto* pci = std::get_if<PciAddress>(&*address);
    const auto* usb = std::get_if<UsbAddress>(&*address);
    const auto* port = std::get_if<VirtioSerialAddress>(&*address);
    return !(pci && !pci->assigned()) && !(usb && usb->port.empty()) && !(port && port->port == 0);
}

/// A word for the place of the device of that identity, so that two can be compared; "" when places are not told apart.
std::string place_of(const Address& address, const std::string& key) {
    if (const auto* pci = std::get_if<PciAddress>(&address))
        return fmt::format("pci {} {} {} {}", pci->domain, pci->bus, pci->slot, pci->function);
    if (const auto* usb = std::get_if<UsbAddress>(&address)) return fmt::format("usb {} {}", usb->bus, usb->port);
    if (const auto* port = std::get_if<VirtioSerialAddress>(&address))
        return fmt::format("virtio-serial {} {}", port->controller, port->port);
    if (const auto* drive = std::get_if<DriveAddress>(&address))
        return fmt::format("{} {} {} {} {}", key.substr(0, key.find(' ', 5)), drive->controller, drive->bus,
                           drive->target, drive->unit);
    if (const auto* ccw = std::get_if<CcwAddress>(&address)) return fmt::format("ccw {}", ccw->devno.value_or(0));
    if (const auto* dimm = std::get_if<DimmAddress>(&address)) return fmt::format("dimm {}", dimm->slot.value_or(0));
    return {};
}

bool is_pci_controller(const Controller& controller, unsigned index) {
    return controller.type == ControllerType::pci && controller.index.value_or(0) == index;
}

/// The bus a PCI address is on must be there with the model it had; so must the buses above it.
void bring_bus(DomainConfig& config, const DomainConfig& previous, unsigned index) {
    auto& now = config.devices.controllers;
    const auto& before = previous.devices.controllers;
    if (std::any_of(now.begin(), now.end(), [&](auto& c) { return is_pci_controller(c, index); })) return;
    const auto old = std::find_if(before.begin(), before.end(), [&](auto& c) { return is_pci_controller(c, index); });
    if (old == before.end()) return;
    insert_controller(config.devices, *old);
    if (const auto* above = old->info.address_as<PciAddress>(); above && index > 0 && above->bus < index)
        bring_bus(config, previous, above->bus);
}

void bring_buses(DomainConfig& config, const DomainConfig& previous) {
    const auto& controllers = config.devices.controllers;
    const bool says_buses = std::any_of(controllers.begin(), controllers.end(), [](auto& c) {
        return c.type == ControllerType::pci && c.index.value_or(0) > 0;
    });
    std::set<unsigned> wanted;
    if (!says_buses)
        for (const auto& controller : previous.devices.controllers)
            if (controller.type == ControllerType::pci) wanted.insert(controller.index.value_or(0));
    for (const auto& device : list_devices(config.devices))
        if (const auto* pci = device.info->address_as<PciAddress>(); pci && pci->assigned()) wanted.insert(pci->bus);
    for (const unsigned index : wanted) bring_bus(config, previous, index);
}

/// A device behind a hub that was added for the earlier definition keeps its port, so the hub comes along.
void bring_hubs(DomainConfig& config, const DomainConfig& previous) {
    const auto is_there = [&](const UsbAddress& place) {
        return std::ranges::any_of(config.devices.hubs, [&](auto& hub) {
            const auto* at = hub.info.template address_as<UsbAddress>();
            return at && at->bus == place.bus && at->port == place.port;
        });
    };
    const auto is_needed = [&](const UsbAddress& place) {
        const std::string behind = place.port + ".";
        const auto devices = list_devices(config.devices);
        return std::ranges::any_of(devices, [&](auto& device) {
            const auto* at = device.info->template address_as<UsbAddress>();
            return at && at->bus == place.bus && at->port.starts_with(behind);
        });
    };
    for (bool changed = true; changed;) {
        changed = false;
        for (const auto& hub : previous.devices.hubs) {
            const auto* at = hub.info.address_as<UsbAddress>();
            if (!at || at->port.empty() || is_there(*at) || !is_needed(*at)) continue;
            config.devices.hubs.push_back(hub);
            changed = true;
        }
    }
}

}  // namespace

void follow_buses(DomainConfig& config, const DomainConfig& previous) {
    if (chipset_of(config).kind != chipset_of(previous).kind) return;
    bring_buses(config, previous);
    bring_hubs(config, previous);
}

namespace {

/// What a running machine gave the device, when that is `previous` or its state is to be taken up. Only such a
/// definition has names that nobody chose.
void follow_run(DeviceInfo& info, const DeviceInfo& before) {
    if (info.alias.empty()) info.alias = before.alias;
    auto* at = info.address_as<DimmAddress>();
    const auto* was = before.address_as<DimmAddress>();
    if (at && was && at->slot == was->slot && !at->base) at->base = was->base;
}

}  // namespace

void follow_addresses(DomainConfig& config, const DomainConfig& previous) {
    if (chipset_of(config).kind != chipset_of(previous).kind) return;
    Devices before_devices = previous.devices;
    const Identities before{before_devices};
    Identities now{config.devices};
    const bool of_run = std::any_of(before.found.begin(), before.found.end(), [](const auto& entry) {
        return !entry.second->alias.empty() && !entry.second->alias.starts_with("ua-");
    });
    std::set<std::string> taken;
    for (const auto& [key, info] : now.found)
        if (is_chosen(info->address)) taken.insert(place_of(*info->address, key));
    for (const auto& [key, info] : now.found) {
        const auto old = before.found.find(key);
        if (of_run && old != before.found.end()) follow_run(*info, *old->second);
        if (is_chosen(info->address) || old == before.found.end() || !is_chosen(old->second->address)) continue;
        if (info->address && info->address->index() != old->second->address->index()) continue;
        const std::string place = place_of(*old->second->address, key);
        if (!place.empty() && !taken.insert(place).second) continue;
        info->address = old->second->address;
    }
    for (auto& memory : config.devices.memories)
        for (const auto& was : previous.devices.memories)
            if (!was.info.alias.empty() && memory.info.alias == was.info.alias && !memory.target.address_base)
                memory.target.address_base = was.target.address_base;
}

}  // namespace virtbus::qemu
