// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/hotplug/plan.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "qemu/addresses.hpp"
#include "qemu/chipset.hpp"
#include "qemu/command_line.hpp"
#include "qemu/complete.hpp"
#include "qemu/topology.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported, why};
}

// ---- kinds

struct NotPluggable {
    DeviceKind kind;
    const char* words;
};

const char* never_pluggable(const Device& device) {
    static const NotPluggable kinds[]{{kind_of<Parallel>, "parallel ports"},
                                      {kind_of<Smartcard>, "smartcards"},
                                      {kind_of<Tpm>, "TPMs"},
                                      {kind_of<Graphics>, "displays"},
                                      {kind_of<Sound>, "sound cards"},
                                      {kind_of<Audio>, "audio back ends"},
                                      {kind_of<Video>, "video cards"},
                                      {kind_of<Memballoon>, "memory balloons"},
                                      {kind_of<Iommu>, "IOMMUs"},
                                      {kind_of<Panic>, "panic devices"},
                                      {kind_of<NvramDevice>, "NVRAM devices"},
                                      {kind_of<Pstore>, "pstore devices"},
                                      {kind_of<Redirfilter>, "redirection filters"},
                                      {kind_of<Lease>, "leases"}};
    for (const auto& each : kinds)
        if (each.kind == device.index()) return each.words;
    return nullptr;
}

void require_bus(const std::string& bus, std::initializer_list<std::string_view> good, const char* what) {
    if (std::find(good.begin(), good.end(), bus) == good.end())
        refuse(fmt::format("{} on the bus '{}' cannot be plugged or unplugged while the machine runs; those on {} can",
                           what, bus, fmt::join(good, ", ")));
}

void require_good_kind(const Device& device) {
    if (const char* what = never_pluggable(device))
        refuse(fmt::format("{} cannot be plugged or unplugged while the machine runs", what));
    if (const auto* disk = std::get_if<Disk>(&device))
        require_bus(disk->target.bus, {"virtio", "scsi", "usb"}, "disks");
    if (const auto* input = std::get_if<Input>(&device)) require_bus(input->bus, {"usb", "virtio"}, "input devices");
    if (const auto* serial = std::get_if<Serial>(&device); serial && serial->target)
        if (serial->target->type != "usb-serial" && serial->target->type != "pci-serial")
            refuse("serial ports cannot be plugged or unplugged while the machine runs, but usb-serial and pci-serial");
    if (const auto* console = std::get_if<Console>(&device);
        console && (!console->target || console->target->type != "virtio"))
        refuse("consoles cannot be plugged or unplugged while the machine runs, but virtio ones");
    if (const auto* channel = std::get_if<Channel>(&device);
        channel && channel->target && channel->target->type != "virtio" && channel->target->type != "guestfwd")
        refuse("channels cannot be plugged or unplugged while the machine runs, but virtio and guestfwd ones");
    if (const auto* filesystem = std::get_if<Filesystem>(&device);
        filesystem && !(filesystem->driver && filesystem->driver->type == "virtiofs"))
        refuse("filesystems cannot be plugged or unplugged while the machine runs, but virtiofs ones");
    if (const auto* watchdog = std::get_if<Watchdog>(&device); watchdog && watchdog->model != "i6300esb")
        refuse("watchdogs cannot be plugged or unplugged while the machine runs, but the i6300esb");
    if (const auto* controller = std::get_if<Controller>(&device)) {
        const bool good = controller->type == ControllerType::scsi ||
                          controller->type == ControllerType::virtio_serial ||
                          (controller->type == ControllerType::usb && controller->model.ends_with("xhci"));
        if (!good)
            refuse(fmt::format("{} controllers cannot be plugged or unplugged while the machine runs",
                               word(controller->type)));
    }
}

// ---- places

bool takes_hotplug(const Chipset& chipset, std::string_view model, unsigned bus) {
    if (bus == 0) return !chipset.pcie();
    return model == "pcie-root-port" || model == "pcie-switch-downstream-port" || model == "pci-bridge" ||
           model == "pcie-to-pci-bridge";
}

const Controller* find_bus(const DomainConfig& config, unsigned index) {
    for (const auto& controller : config.devices.controllers)
        if (controller.type == ControllerType::pci && controller.index.value_or(0) == index) return &controller;
    return nullptr;
}

const DeviceInfo* info_at(const Devices& devices, DevicePlace place, Device& held) {
    held = device_at(devices, place.kind, place.number);
    return find_info(held);
}

unsigned free_ports(const DomainConfig& live) {
    std::set<unsigned> taken;
    Device held;
    for (const auto place : all_devices(live.devices))
        if (const auto* info = info_at(live.devices, place, held))
            if (const auto* pci = info->address_as<PciAddress>()) taken.insert(pci->bus);
    return static_cast<unsigned>(std::ranges::count_if(live.devices.controllers, [&](const Controller& controller) {
        const bool port = controller.model == "pcie-root-port" || controller.model == "pcie-switch-downstream-port";
        return port && !taken.contains(controller.index.value_or(0));
    }));
}

void require_good_place(const DomainConfig& config, const Device& device) {
    const auto* info = find_info(device);
    const auto* pci = info ? info->address_as<PciAddress>() : nullptr;
    if (!pci) return;
    const auto& chipset = chipset_of(config);
    const auto* bus = find_bus(config, pci->bus);
    if (!takes_hotplug(chipset, bus ? bus->model : "", pci->bus))
        refuse(
            fmt::format("nothing can be plugged or unplugged at PCI address {} while the machine runs: its bus ({}) "
                        "does not take it",
                        text_of(*pci), bus ? bus->model : "none"));
    if (pci->function != 0 || pci->multifunction.value_or(false))
        refuse(fmt::format("functions of a device ({}) cannot be plugged or unplugged one by one", text_of(*pci)));
}

/// The stored definition's places that are free here are held by stand-ins, so that they are not given away.
void hold_claims(DomainConfig& trial, const DomainConfig& live, const DomainConfig& stored) {
    std::set<std::string> taken;
    const auto place_word = [](const DeviceInfo& info) -> std::string {
        if (const auto* pci = info.address_as<PciAddress>(); pci && pci->assigned()) return "pci " + text_of(*pci);
        if (const auto* usb = info.address_as<UsbAddress>(); usb && !usb->port.empty())
            return fmt::format("usb {} {}", usb->bus, usb->port);
        if (const auto* port = info.address_as<VirtioSerialAddress>(); port && port->port)
            return fmt::format("port {} {}", port->controller, port->port);
        return {};
    };
    Device held;
    for (const auto place : all_devices(trial.devices))
        if (const auto* info = info_at(trial.devices, place, held)) taken.insert(place_word(*info));
    for (const auto place : all_devices(stored.devices)) {
        const auto* info = info_at(stored.devices, place, held);
        if (!info) continue;
        const auto claim = place_word(*info);
        if (claim.empty() || !taken.insert(claim).second) continue;
        if (const auto* pci = info->address_as<PciAddress>(); pci && find_bus(live, pci->bus)) {
            if (pci->function != 0) continue;
            Rng rng;
            rng.info.address = *pci;
            trial.devices.rngs.push_back(std::move(rng));
        } else if (info->address_as<UsbAddress>()) {
            Input input;
            input.bus = "usb";
            input.info.address = info->address;
            trial.devices.inputs.push_back(std::move(input));
        } else if (info->address_as<VirtioSerialAddress>()) {
            Channel channel;
            channel.type = ChardevType::null;
            channel.target.emplace().name = claim;
            channel.info.address = info->address;
            trial.devices.channels.push_back(std::move(channel));
        }
    }
}

// ---- completing

struct Trial {
    DomainConfig config;
    std::size_t number = 0;
};

Trial try_out(const DomainConfig& live, const Device& device, const DomainConfig* stored, bool claims,
              const Capabilities& capabilities) {
    Trial trial{live, 0};
    trial.number = add_device(trial.config, device);
    if (stored && claims) {
        follow_addresses(trial.config, *stored);
        hold_claims(trial.config, live, *stored);
    }
    auto os = trial.config.os;
    trial.config.os.firmware.clear();  // it has been chosen
    complete(trial.config, nullptr, capabilities);
    trial.config.os = std::move(os);
    return trial;
}

std::vector<Device> new_controllers(const DomainConfig& live, const DomainConfig& trial, const Device& device) {
    std::vector<Device> fresh;
    const auto* itself = std::get_if<Controller>(&device);
    for (const auto& controller : trial.devices.controllers) {
        const auto same = [&](const Controller& other) {
            return other.type == controller.type && other.index == controller.index && other.model == controller.model;
        };
        if (std::ranges::any_of(live.devices.controllers, same) || (itself && same(*itself))) continue;
        fresh.emplace_back(controller);
    }
    for (std::size_t i = live.devices.hubs.size(); i < trial.devices.hubs.size(); ++i)
        if (!std::holds_alternative<Hub>(device)) fresh.emplace_back(trial.devices.hubs[i]);
    return fresh;
}

bool needs_bus(const std::vector<Device>& fresh) {
    return std::ranges::any_of(fresh, [](const Device& device) {
        const auto* controller = std::get_if<Controller>(&device);
        return controller && controller->type == ControllerType::pci;
    });
}

/// Numbered names go on behind the highest; those made of an address stay.
void name_device(DomainConfig& config, const DomainConfig& live, DevicePlace place) {
    auto device = device_at(config.devices, place.kind, place.number);
    auto& info = *find_info(device);
    const bool by_place =
        place.kind == kind_of<Disk> || place.kind == kind_of<Controller> || place.kind == kind_of<MemoryDevice>;
    if (info.alias.starts_with("ua-")) return;
    info.alias.clear();
    DomainConfig alone = reduced(live, {device});
    assign_aliases(alone);
    const auto count = count_devices(alone.devices, place.kind);
    for (std::size_t i = 0; i < count; ++i) {
        const auto named = device_at(alone.devices, place.kind, i);
        if (find_info(named)->address == info.address) info.alias = find_info(named)->alias;
    }
    if (!by_place) {
        auto prefix = info.alias;
        while (!prefix.empty() && prefix.back() >= '0' && prefix.back() <= '9') prefix.pop_back();
        std::size_t n = 0;
        Device held;
        for (const auto each : all_devices(live.devices)) {
            const auto* other = info_at(live.devices, each, held);
            std::size_t number = 0;
            if (!other || !other->alias.starts_with(prefix)) continue;
            const auto *from = other->alias.data() + prefix.size(), *to = other->alias.data() + other->alias.size();
            if (const auto [end, error] = std::from_chars(from, to, number); error == std::errc{} && end == to)
                n = std::max(n, number + 1);
        }
        info.alias = fmt::format("{}{}", prefix, n);
    }
    if (find_alias(live.devices, info.alias))
        throw Error{Code::device_in_use, fmt::format("a device '{}' is there already", info.alias)};
    replace_device(config.devices, place.number, std::move(device));
}

void require_memory_room(const DomainConfig& live, const MemoryDevice& memory) {
    if (memory.model == "sgx-epc") refuse("memory devices of model 'sgx-epc' cannot be plugged while the machine runs");
    if (!live.max_memory) refuse("the machine was started without <maxMemory>, so it has no room for memory devices");
    const auto is_nvdimm = [](const MemoryDevice& each) { return each.model == "nvdimm"; };
    if (is_nvdimm(memory) && std::ranges::none_of(live.devices.memories, is_nvdimm))
        refuse("the machine was started without an NVDIMM, and has no place for others then");
    const auto used =
        std::ranges::count_if(live.devices.memories, [](auto& each) { return each.model.ends_with("dimm"); });
    if (memory.model.ends_with("dimm") && static_cast<unsigned>(used) >= live.max_memory->slots)
        refuse(fmt::format("all {} memory slots are taken", live.max_memory->slots));
    if (live.memory.value_or(0) + memory.target.size > live.max_memory->size)
        refuse(fmt::format("{} bytes more than <maxMemory> would be there",
                           live.memory.value_or(0) + memory.target.size - live.max_memory->size));
}

}  // namespace

DomainConfig reduced(const DomainConfig& live, const std::vector<Device>& devices) {
    DomainConfig config = live;
    const auto controllers = live.devices.controllers;
    const auto memories = live.devices.memories;
    const auto emulator = live.devices.emulator;
    config.devices = Devices{};
    config.devices.controllers = controllers;
    config.devices.memories = memories;
    config.devices.emulator = emulator;
    config.os = Os{};
    config.os.type = live.os.type;
    config.os.arch = live.os.arch;
    config.os.machine = live.os.machine;
    config.sysinfos.clear();
    config.genid.reset();
    config.qemu_commandline.reset();
    for (const auto& device : devices) (void)add_device(config, device);
    return config;
}

PlugPlan plan_attach(const DomainConfig& live, Device device, const DomainConfig* stored,
                     const Capabilities& capabilities) {
    if (const char* what = never_pluggable(device))
        refuse(fmt::format("{} cannot be plugged while the machine runs", what));
    // One that another device needs comes with it.
    if (std::holds_alternative<Hub>(device)) refuse("hubs cannot be plugged by themselves while the machine runs");
    if (const auto* memory = std::get_if<MemoryDevice>(&device)) require_memory_room(live, *memory);
    const auto kind = device.index();
    std::optional<Trial> trial;
    std::vector<Device> fresh;
    if (stored) {
        try {
            trial = try_out(live, device, stored, true, capabilities);
            fresh = new_controllers(live, trial->config, device);
        } catch (const Error&) {
            trial.reset();  // the claims are in the way
        }
    }
    if (!trial || needs_bus(fresh)) {
        trial = try_out(live, device, nullptr, false, capabilities);
        fresh = new_controllers(live, trial->config, device);
    }
    auto& config = trial->config;
    auto completed = device_at(config.devices, kind, trial->number);
    require_good_kind(completed);
    if (needs_bus(fresh))
        refuse(fmt::format(
            "no PCI place is free that takes a device while the machine runs; {} of its PCIe ports are "
            "free, and this device needs {}. Add <controller type='pci' model='{}'/> before a start",
            free_ports(live),
            std::holds_alternative<Controller>(fresh.front()) && fresh.size() > 1 ? "a conventional PCI bus" : "one",
            std::get<Controller>(fresh.front()).model));
    PlugPlan plan;
    plan.without = reduced(live, {});
    auto present = live;
    for (auto& each : fresh) {
        require_good_kind(each);
        require_good_place(config, each);
        DomainConfig naming = reduced(live, {each});
        for (const auto place : all_devices(naming.devices))
            if (place.kind == each.index() &&
                find_info(device_at(naming.devices, place.kind, place.number))->address == find_info(each)->address) {
                name_device(naming, present, place);
                each = device_at(naming.devices, place.kind, place.number);
                break;
            }
        (void)add_device(present, each);
        plan.devices.push_back(each);
    }
    require_good_place(config, completed);
    name_device(config, present, {kind, trial->number});
    plan.devices.push_back(device_at(config.devices, kind, trial->number));
    plan.with = reduced(live, plan.devices);
    return plan;
}

void require_detachable(const DomainConfig& live, const Device& device) {
    require_good_kind(device);
    require_good_place(live, device);
    if (const auto* memory = std::get_if<MemoryDevice>(&device); memory && memory->model.starts_with("virtio-"))
        refuse(fmt::format("memory devices of model '{}' cannot be unplugged while the machine runs{}", memory->model,
                           memory->model == "virtio-mem" ? "; request a smaller size instead" : ""));
    const auto* controller = std::get_if<Controller>(&device);
    if (!controller) return;
    // Its own memory refers to it, so that QEMU (7.2) never tells that it has gone.
    if (controller->type == ControllerType::usb) refuse("usb controllers cannot be unplugged while the machine runs");
    const auto index = controller->index.value_or(0);
    Device held;
    for (const auto place : all_devices(live.devices)) {
        const auto* info = info_at(live.devices, place, held);
        if (!info) continue;
        const auto* drive = info->address_as<DriveAddress>();
        const auto* port = info->address_as<VirtioSerialAddress>();
        const auto* usb = info->address_as<UsbAddress>();
        const auto* disk = std::get_if<Disk>(&held);
        const bool uses = (drive && controller->type == ControllerType::scsi && drive->controller == index &&
                           (!disk || disk->target.bus == "scsi")) ||
                          (port && controller->type == ControllerType::virtio_serial && port->controller == index) ||
                          (usb && controller->type == ControllerType::usb && usb->bus == index);
        if (uses)
            throw Error{Code::device_in_use, fmt::format("device '{}' hangs on controller '{}'; detach it first",
                                                         info->alias, controller->info.alias)};
    }
}

}  // namespace virtbus::qemu
