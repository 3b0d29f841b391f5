// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/usb_addresses.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <vector>

#include "qemu/device_list.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

constexpr unsigned hub_ports = 8;

/// Everything but hubs, in the order in which ports are given out.
template <class Config, class Each>
void each_usb_device(Config& config, Each each) {
    auto& devices = config.devices;
    for (auto& input : devices.inputs)
        if (input.bus == "usb") each(input.info, input.type);
    for (auto& disk : devices.disks)
        if (disk.target.bus == "usb") each(disk.info, name_of(disk));
    for (auto& hostdev : devices.hostdevs)
        if (hostdev.type == HostdevType::usb && hostdev.mode == "subsystem") each(hostdev.info, "hostdev");
    for (auto& redirdev : devices.redirdevs) each(redirdev.info, "redirdev");
    for (auto& serial : devices.serials)
        if (serial.target && serial.target->type == "usb-serial") each(serial.info, "serial port");
    for (auto& sound : devices.sounds)
        if (sound.model == "usb") each(sound.info, "sound card");
    for (auto& controller : devices.controllers)
        if (controller.type == ControllerType::ccid) each(controller.info, name_of(controller));
    for (auto& interface : devices.interfaces)
        if (interface.model == "usb-net") each(interface.info, name_of(interface));
}

unsigned ports_of(const Controller& controller) {
    const std::string& model = controller.model;
    if (model == "none") return 0;
    if (model == "qemu-xhci" || model == "nec-xhci") return controller.ports.value_or(4);
    if (model == "ehci" || model == "ich9-ehci1") return 6;
    if (model == "pci-ohci") return 3;
    return 2;
}

/// 0 for what is no port.
unsigned number_of(std::string_view port) {
    unsigned number = 0;
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    return error == std::errc{} && end == port.data() + port.size() ? number : 0;
}

/// Ports by bus, with who has them.
class Ports {
public:
    explicit Ports(DomainConfig& config) : config_{config} {
        for (const auto& controller : config.devices.controllers) {
            if (controller.type != ControllerType::usb) continue;
            auto& ports = roots_[controller.index.value_or(0)];
            ports = std::max(ports, ports_of(controller));
        }
        for (const auto& hub : config.devices.hubs)
            if (const auto* at = hub.info.address_as<UsbAddress>(); at && !at->port.empty()) take(*at, "hub");
    }

    void take(const UsbAddress& at, const std::string& who) {
        const auto root = roots_.find(at.bus);
        if (root == roots_.end())
            throw Error{Code::unsupported_configuration,
                        fmt::format("{} is on USB bus {}, but there is no USB controller "
                                    "with that index",
                                    who, at.bus)};
        const auto dot = at.port.rfind('.');
        const unsigned count = dot == std::string::npos ? root->second : hub_ports;
        const unsigned port = number_of(std::string_view{at.port}.substr(dot == std::string::npos ? 0 : dot + 1));
        if (port == 0 || port > count)
            throw Error{Code::unsupported_configuration,
                        fmt::format("{} is at port {} of USB bus {}, which has the ports 1 to {}", who, at.port, at.bus,
                                    count)};
        const auto [there, fresh] = taken_.emplace(std::pair{at.bus, at.port}, who);
        if (!fresh)
            throw Error{Code::unsupported_configuration, fmt::format("{} and {} are both at port {} of USB bus {}",
                                                                     there->second, who, at.port, at.bus)};
    }

    std::optional<UsbAddress> find(std::optional<unsigned> wanted) const {
        for (const auto& [bus, count] : roots_) {
            if (wanted && *wanted != bus) continue;
            if (auto at = find_below(bus, "", count)) return at;
            for (const auto& [place, who] : taken_)
                if (place.first == bus && who == "hub")
                    if (auto at = find_below(bus, place.second + ".", hub_ports)) return at;
        }
        return std::nullopt;
    }
    unsigned free() const {
        std::size_t all = 0;
        for (const auto& root : roots_) all += root.second;
        for (const auto& taken : taken_) all += taken.second == "hub" ? hub_ports : 0;
        return all > taken_.size() ? static_cast<unsigned>(all - taken_.size()) : 0;
    }
    /// A port behind a hub wants the hub.
    void check_hubs() const {
        for (const auto& [place, who] : taken_) {
            const auto dot = place.second.rfind('.');
            if (dot == std::string::npos) continue;
            const auto above = taken_.find({place.first, place.second.substr(0, dot)});
            if (above == taken_.end() || above->second != "hub")
                throw Error{Code::unsupported_configuration,
                            fmt::format("{} is at port {} of USB bus {}, but there is no hub at port {}", who,
                                        place.second, place.first, place.second.substr(0, dot))};
        }
    }
    void add_hub() {
        const auto at = find(std::nullopt);
        if (!at) return;
        take(*at, "hub");
        config_.devices.hubs.emplace_back().info.address = *at;
    }

private:
    std::optional<UsbAddress> find_below(unsigned bus, const std::string& above, unsigned count) const {
        UsbAddress at;
        at.bus = bus;
        for (unsigned port = 1; port <= count; ++port) {
            at.port = above + std::to_string(port);
            if (!taken_.contains({bus, at.port})) return at;
        }
        return std::nullopt;
    }

    DomainConfig& config_;
    std::map<unsigned, unsigned> roots_;
    std::map<std::pair<unsigned, std::string>, std::string> taken_;
};

}  // namespace

bool has_usb_devices(const DomainConfig& config) {
    bool any = !config.devices.hubs.empty();
    each_usb_device(config, [&](const DeviceInfo&, const std::string&) { any = true; });
    return any;
}

void assign_usb_addresses(DomainConfig& config) {
    Ports ports{config};
    std::vector<DeviceRef> waiting;
    for (auto& hub : config.devices.hubs) {
        const auto* at = hub.info.address_as<UsbAddress>();
        if (at && !at->port.empty()) continue;
        const auto place = ports.find(at ? std::optional{at->bus} : std::nullopt);
        if (!place) throw Error{Code::unsupported_configuration, "no USB port is free for a hub"};
        ports.take(*place, "hub");
        hub.info.address = *place;
    }
    each_usb_device(config, [&](DeviceInfo& info, const std::string& name) {
        const auto* at = info.address_as<UsbAddress>();
        if (at && !at->port.empty())
            ports.take(*at, name);
        else
            waiting.push_back({&info, name});
    });
    while (ports.free() && ports.free() < waiting.size()) ports.add_hub();
    for (const auto& device : waiting) {
        const auto* said = device.info->address_as<UsbAddress>();
        const auto at = ports.find(said ? std::optional{said->bus} : std::nullopt);
        if (!at)
            throw Error{
                Code::unsupported_configuration,
                fmt::format("no USB port is free for {}; add a USB controller, or remove model 'none'", device.name)};
        ports.take(*at, device.name);
        device.info->address = *at;
    }
    ports.check_hubs();
}

}  // namespace virtbus::qemu
