// SPDX-License-Identifier: LGPL-2.1-or-later
#include "test/names.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "virtbus/model/device_lists.hpp"

namespace virtbus::test_driver {

namespace {

std::string_view prefix_of(const Device& device) {
    struct Row {
        DeviceKind kind;
        std::string_view prefix;
    };
    static const std::array rows{Row{kind_of<Serial>, "serial"},     Row{kind_of<Parallel>, "parallel"},
                                 Row{kind_of<Console>, "console"},   Row{kind_of<Channel>, "channel"},
                                 Row{kind_of<Interface>, "net"},     Row{kind_of<Input>, "input"},
                                 Row{kind_of<Hostdev>, "hostdev"},   Row{kind_of<Rng>, "rng"},
                                 Row{kind_of<Watchdog>, "watchdog"}, Row{kind_of<Filesystem>, "fs"}};
    const auto found = std::ranges::find(rows, device.index(), &Row::kind);
    return found == rows.end() ? std::string_view{"device"} : found->prefix;
}

}  // namespace

void name_devices(DomainConfig& config) {
    for (const auto place : all_devices(config.devices)) {
        auto device = device_at(config.devices, place.kind, place.number);
        auto* info = find_info(device);
        if (!info || !info->alias.empty()) continue;
        if (const auto* disk = std::get_if<Disk>(&device))
            info->alias = fmt::format("{}-disk-{}", disk->target.bus, disk->target.dev);
        const auto prefix = prefix_of(device);
        for (std::size_t n = 0; info->alias.empty(); ++n)
            if (auto alias = fmt::format("{}{}", prefix, n); !find_alias(config.devices, alias)) info->alias = alias;
        replace_device(config.devices, place.number, std::move(device));
    }
}

bool needs_link(InterfaceType type) {
    return type == InterfaceType::bridge || type == InterfaceType::network || type == InterfaceType::ethernet ||
           type == InterfaceType::direct;
}

std::vector<PciRequest> pci_devices(const std::vector<Hostdev>& hostdevs) {
    std::vector<PciRequest> all;
    for (const auto& hostdev : hostdevs) {
        const auto* at = hostdev.source.address ? std::get_if<HostPciAddress>(&*hostdev.source.address) : nullptr;
        if (!at || hostdev.type != HostdevType::pci) continue;
        all.push_back({fmt::format("{:04x}:{:02x}:{:02x}.{:x}", at->domain, at->bus, at->slot, at->function),
                       hostdev.info.alias, hostdev.managed.value_or(false), "vfio-pci"});
    }
    return all;
}

}  // namespace virtbus::test_driver
