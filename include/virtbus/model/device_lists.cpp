// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtbus/model/device_lists.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace virtbus {

namespace {

/// Where the devices of one kind are kept. One row for each alternative of Device, in its order.
struct Kept {
    std::size_t (*count)(const Devices&);
    Device (*get)(const Devices&, std::size_t);
    void (*set)(Devices&, std::size_t, Device);
    void (*insert)(Devices&, std::size_t, Device);
    void (*erase)(Devices&, std::size_t);
    DeviceInfo* (*info)(Devices&, std::size_t);
};

template <class T>
DeviceInfo* info_in(T& device) {
    if constexpr (requires { device.info; })
        return &device.info;
    else
        return nullptr;
}

template <class T, std::vector<T> Devices::* member>
constexpr Kept list() {
    return {
        [](const Devices& devices) { return (devices.*member).size(); },
        [](const Devices& devices, std::size_t at) { return Device{(devices.*member)[at]}; },
        [](Devices& devices, std::size_t at, Device device) { (devices.*member)[at] = std::get<T>(std::move(device)); },
        [](Devices& devices, std::size_t at, Device device) {
            auto& all = devices.*member;
            all.insert(all.begin() + static_cast<std::ptrdiff_t>(at), std::get<T>(std::move(device)));
        },
        [](Devices& devices, std::size_t at) {
            auto& all = devices.*member;
            all.erase(all.begin() + static_cast<std::ptrdiff_t>(at));
        },
        [](Devices& devices, std::size_t at) { return info_in((devices.*member)[at]); }};
}

template <class T, std::optional<T> Devices::* member>
constexpr Kept single() {
    return {[](const Devices& devices) { return std::size_t{(devices.*member).has_value()}; },
            [](const Devices& devices, std::size_t) { return Device{*(devices.*member)}; },
            [](Devices& devices, std::size_t, Device device) { devices.*member = std::get<T>(std::move(device)); },
            [](Devices& devices, std::size_t, Device device) { devices.*member = std::get<T>(std::move(device)); },
            [](Devices& devices, std::size_t) { (devices.*member).reset(); },
            [](Devices& devices, std::size_t) { return info_in(*(devices.*member)); }};
}

constexpr std::array<Kept, device_kinds> kept{
    list<Disk, &Devices::disks>(),
    list<Controller, &Devices::controllers>(),
    list<Lease, &Devices::leases>(),
    list<Filesystem, &Devices::filesystems>(),
    list<Interface, &Devices::interfaces>(),
    list<Smartcard, &Devices::smartcards>(),
    list<Serial, &Devices::serials>(),
    list<Parallel, &Devices::parallels>(),
    list<Console, &Devices::consoles>(),
    list<Channel, &Devices::channels>(),
    list<Input, &Devices::inputs>(),
    list<Tpm, &Devices::tpms>(),
    list<Graphics, &Devices::graphics>(),
    list<Sound, &Devices::sounds>(),
    list<Audio, &Devices::audios>(),
    list<Video, &Devices::videos>(),
    list<Hostdev, &Devices::hostdevs>(),
    list<Redirdev, &Devices::redirdevs>(),
    single<Redirfilter, &Devices::redirfilter>(),
    list<Hub, &Devices::hubs>(),
    list<Watchdog, &Devices::watchdogs>(),
    single<Memballoon, &Devices::memballoon>(),
    list<Rng, &Devices::rngs>(),
    single<NvramDevice, &Devices::nvram>(),
    list<Panic, &Devices::panics>(),
    list<Shmem, &Devices::shmems>(),
    list<MemoryDevice, &Devices::memories>(),
    list<Crypto, &Devices::cryptos>(),
    list<Iommu, &Devices::iommus>(),
    single<Vsock, &Devices::vsock>(),
    single<Pstore, &Devices::pstore>(),
};

/// "vdb" comes before "vdaa".
bool earlier(const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
}

/// Behind those of its bus that come before it, else before those that come after it.
std::size_t place_of(const std::vector<Disk>& disks, const Disk& disk) {
    std::size_t behind = 0, before = disks.size();
    bool found = false;
    for (std::size_t i = 0; i < disks.size(); ++i) {
        if (disks[i].target.bus != disk.target.bus) continue;
        if (!earlier(disk.target.dev, disks[i].target.dev)) {
            behind = i + 1;
            found = true;
        } else if (before == disks.size()) {
            before = i;
        }
    }
    return found ? behind : before;
}

std::size_t place_of(const std::vector<Controller>& controllers, const Controller& controller) {
    std::size_t place = controllers.size();
    for (std::size_t i = 0; i < controllers.size(); ++i)
        if (controllers[i].type == controller.type && controllers[i].index.value_or(0) < controller.index.value_or(0))
            place = i + 1;
    return place;
}

std::uint64_t memory_of(const Device& device) {
    const auto* memory = std::get_if<MemoryDevice>(&device);
    return memory ? memory->target.size : 0;
}

}  // namespace

std::size_t count_devices(const Devices& devices, DeviceKind kind) {
    return kept[kind].count(devices);
}

Device device_at(const Devices& devices, DeviceKind kind, std::size_t number) {
    return kept[kind].get(devices, number);
}

void replace_device(Devices& devices, std::size_t number, Device device) {
    const auto kind = device.index();
    kept[kind].set(devices, number, std::move(device));
}

std::size_t add_device(DomainConfig& config, Device device) {
    const auto kind = device.index();
    auto place = count_devices(config.devices, kind);
    if (const auto* disk = std::get_if<Disk>(&device)) place = place_of(config.devices.disks, *disk);
    if (const auto* controller = std::get_if<Controller>(&device); controller && controller->index)
        place = place_of(config.devices.controllers, *controller);
    if (const auto size = memory_of(device); size && config.memory) {
        const bool all = config.current_memory.value_or(*config.memory) == *config.memory;
        *config.memory += size;
        if (config.current_memory) *config.current_memory = all ? *config.memory : *config.current_memory + size;
    }
    kept[kind].insert(config.devices, place, std::move(device));
    return place;
}

void remove_device(DomainConfig& config, DeviceKind kind, std::size_t number) {
    if (const auto size = memory_of(device_at(config.devices, kind, number)); config.memory && size < *config.memory) {
        *config.memory -= size;
        if (config.current_memory) *config.current_memory = std::min(*config.current_memory, *config.memory);
    }
    kept[kind].erase(config.devices, number);
}

DeviceInfo* find_info(Device& device) {
    return std::visit([](auto& each) { return info_in(each); }, device);
}

const DeviceInfo* find_info(const Device& device) {
    return find_info(const_cast<Device&>(device));
}

std::vector<DevicePlace> all_devices(const Devices& devices) {
    std::vector<DevicePlace> places;
    for (DeviceKind kind = 0; kind < device_kinds; ++kind)
        for (std::size_t i = 0; i < kept[kind].count(devices); ++i) places.push_back({kind, i});
    return places;
}

std::optional<DevicePlace> find_alias(const Devices& devices, std::string_view alias) {
    if (alias.empty()) return std::nullopt;
    auto& all = const_cast<Devices&>(devices);  // only looked at
    std::optional<DevicePlace> console;
    for (const auto place : all_devices(devices)) {
        const auto* info = kept[place.kind].info(all, place.number);
        if (!info || info->alias != alias) continue;
        // The first console is a second name of the first serial port.
        if (place.kind != kind_of<Console>) return place;
        console = place;
    }
    return console;
}

}  // namespace virtbus
