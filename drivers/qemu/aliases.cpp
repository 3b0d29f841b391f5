// SPDX-License-Identifier: LGPL-2.1-or-later
// The names by which QEMU and people speak of running devices, as libvirt gives them.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "qemu/addresses.hpp"
#include "qemu/chipset.hpp"
#include "qemu/command_line.hpp"
#include "qemu/pci_devices.hpp"

namespace virtbus::qemu {

namespace {

using Taken = std::set<std::string>;

void name(DeviceInfo& info, std::string alias) {
    if (!info.alias.starts_with("ua-")) info.alias = std::move(alias);
}

bool is_numbered(std::string_view alias, std::string_view prefix) {
    if (!alias.starts_with(prefix)) return false;
    alias.remove_prefix(prefix.size());
    return !alias.empty() && alias.size() < 10 &&
           std::ranges::all_of(alias, [](char c) { return c >= '0' && c <= '9'; });
}

/// A name that an earlier run of the machine gave is kept: what a saved state calls its parts comes of it.
template <class List, class Prefix>
Taken keep_names(List& list, Prefix prefix) {
    Taken taken;
    for (auto& device : list) {
        auto& alias = device.info.alias;
        const bool good = alias.starts_with("ua-") || (is_numbered(alias, prefix(device)) && !taken.contains(alias));
        if (good)
            taken.insert(alias);
        else
            alias.clear();
    }
    return taken;
}

template <class List>
void number(List& list, const char* prefix) {
    auto taken = keep_names(list, [&](auto&) { return std::string_view{prefix}; });
    std::size_t place = 0;
    for (auto& device : list) {
        auto n = place++;
        if (!device.info.alias.empty()) continue;
        while (taken.contains(fmt::format("{}{}", prefix, n))) ++n;
        device.info.alias = *taken.insert(fmt::format("{}{}", prefix, n)).first;
    }
}

bool on_narrow_bus(const DomainConfig& config, const DriveAddress& at) {
    for (const auto& controller : config.devices.controllers)
        if (controller.type == ControllerType::scsi && controller.index.value_or(0) == at.controller)
            return controller.model == "lsilogic";
    return false;
}

std::string alias_of(const Disk& disk, const DomainConfig& config) {
    const std::string& bus = disk.target.bus;
    if (const auto* at = disk.info.address_as<DriveAddress>()) {
        if (bus == "scsi" && !on_narrow_bus(config, *at))
            return fmt::format("scsi{}-{}-{}-{}", at->controller, at->bus, at->target, at->unit);
        return fmt::format("{}{}-{}-{}", bus, at->controller, at->bus, at->unit);
    }
    return fmt::format("{}-disk{}", bus, index_of_target(disk.target.dev));
}

std::string alias_of(const Controller& controller, const Chipset& chipset) {
    const unsigned index = controller.index.value_or(0);
    switch (controller.type) {
        case ControllerType::pci:
            return index == 0 ? std::string{chipset.root_bus()} : fmt::format("pci.{}", index);
        case ControllerType::ide:
            return index == 0 && chipset.ide ? "ide" : fmt::format("ide{}", index);
        case ControllerType::sata:
            return index == 0 && chipset.sata ? "ide" : fmt::format("sata{}", index);
        case ControllerType::usb:
            return index == 0 ? "usb" : fmt::format("usb{}", index);
        default:
            return fmt::format("{}{}", word(controller.type), index);
    }
}

std::string memory_prefix(std::string_view model) {
    if (model == "virtio-mem") return "virtiomem";
    if (model == "virtio-pmem") return "virtiopmem";
    if (model == "sgx-epc") return "epc";
    return std::string{model};
}

/// After its slot, if it has one.
void number_memories(std::vector<MemoryDevice>& memories) {
    auto taken = keep_names(memories, [](const MemoryDevice& memory) { return memory_prefix(memory.model); });
    std::size_t place = 0;
    for (auto& memory : memories) {
        const auto* at = memory.info.address_as<DimmAddress>();
        auto n = at && at->slot ? *at->slot : place;
        ++place;
        if (!memory.info.alias.empty()) continue;
        while (taken.contains(fmt::format("{}{}", memory_prefix(memory.model), n))) ++n;
        memory.info.alias = *taken.insert(fmt::format("{}{}", memory_prefix(memory.model), n)).first;
    }
}

}  // namespace

void assign_aliases(DomainConfig& config) {
    const Chipset& chipset = chipset_of(config);
    Devices& devices = config.devices;
    for (auto& controller : devices.controllers) name(controller.info, alias_of(controller, chipset));
    for (auto& disk : devices.disks) name(disk.info, alias_of(disk, config));
    number(devices.interfaces, "net");
    number(devices.filesystems, "fs");
    number(devices.sounds, "sound");
    number(devices.videos, "video");
    number(devices.serials, "serial");
    number(devices.parallels, "parallel");
    number(devices.consoles, "console");
    number(devices.channels, "channel");
    number(devices.inputs, "input");
    number(devices.tpms, "tpm");
    number(devices.hostdevs, "hostdev");
    number(devices.redirdevs, "redir");
    number(devices.hubs, "hub");
    number(devices.watchdogs, "watchdog");
    number(devices.rngs, "rng");
    number(devices.panics, "panic");
    number(devices.shmems, "shmem");
    number(devices.smartcards, "smartcard");
    number(devices.cryptos, "crypto");
    number(devices.iommus, "iommu");
    number_memories(devices.memories);
    if (devices.memballoon) name(devices.memballoon->info, "balloon0");
    if (devices.vsock) name(devices.vsock->info, "vsock0");
    if (devices.pstore) name(devices.pstore->info, "pstore0");
    // The first console is the first serial port under another name.
    const bool paired = !devices.serials.empty() && !devices.consoles.empty() &&
                        (!devices.consoles[0].target || devices.consoles[0].target->type == "serial");
    if (paired) devices.consoles[0].info.alias = devices.serials[0].info.alias;
}

}  // namespace virtbus::qemu
