// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/device_list.hpp"

#include <fmt/format.h>

namespace virtbus::qemu {

namespace {

template <class List>
void add(std::vector<DeviceRef>& out, List& list, const char* kind) {
    std::size_t number = 0;
    for (auto& device : list) out.push_back({&device.info, fmt::format("{} {}", kind, ++number)});
}
template <class Device>
void add(std::vector<DeviceRef>& out, std::optional<Device>& device, const char* kind) {
    if (device) out.push_back({&device->info, kind});
}
template <class List>
void add_named(std::vector<DeviceRef>& out, List& list) {
    for (auto& device : list) out.push_back({&device.info, name_of(device)});
}

}  // namespace

std::string name_of(const Disk& disk) {
    return fmt::format("disk '{}'", disk.target.dev);
}

std::string name_of(const Controller& controller) {
    return fmt::format("{} controller {}{}", word(controller.type), controller.index.value_or(0),
                       controller.model.empty() ? "" : fmt::format(" ({})", controller.model));
}

std::string name_of(const Interface& interface) {
    return fmt::format("interface '{}'", interface.mac);
}

Controller& insert_controller(Devices& devices, Controller controller) {
    auto& all = devices.controllers;
    auto at = all.end();
    // A master stands before its companions, which share its index.
    const auto rank = [](const Controller& c) {
        return std::pair{c.index.value_or(0), c.info.usb_master_startport.has_value()};
    };
    // Before the first with a greater index, unless one with a smaller index comes after that.
    for (auto i = all.end(); i != all.begin();) {
        --i;
        if (i->type != controller.type) continue;
        if (rank(*i) <= rank(controller)) {
            at = i + 1;
            break;
        }
        at = i;
    }
    return *all.insert(at, std::move(controller));
}

std::vector<DeviceRef> list_devices(Devices& devices) {
    std::vector<DeviceRef> out;
    add_named(out, devices.disks);
    add_named(out, devices.controllers);
    add(out, devices.filesystems, "filesystem");
    add_named(out, devices.interfaces);
    add(out, devices.smartcards, "smartcard");
    add(out, devices.serials, "serial");
    add(out, devices.parallels, "parallel");
    add(out, devices.consoles, "console");
    add(out, devices.channels, "channel");
    add(out, devices.inputs, "input");
    add(out, devices.tpms, "tpm");
    add(out, devices.sounds, "sound");
    add(out, devices.videos, "video");
    add(out, devices.hostdevs, "hostdev");
    add(out, devices.redirdevs, "redirdev");
    add(out, devices.hubs, "hub");
    add(out, devices.watchdogs, "watchdog");
    add(out, devices.memballoon, "memballoon");
    add(out, devices.rngs, "rng");
    add(out, devices.nvram, "nvram");
    add(out, devices.panics, "panic");
    add(out, devices.shmems, "shmem");
    add(out, devices.memories, "memory device");
    add(out, devices.cryptos, "crypto");
    add(out, devices.iommus, "iommu");
    add(out, devices.vsock, "vsock");
    add(out, devices.pstore, "pstore");
    return out;
}

}  // namespace virtbus::qemu
