// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/networking/network_ports.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "virtbus/error.hpp"

namespace virtbus {

namespace {

constexpr std::uint32_t first_class = 3, last_class = 0xffff;

std::uint64_t floor_of(const std::optional<BandwidthLimit>& inbound) {
    return inbound ? inbound->floor.value_or(0) : 0;
}

const PortGroup* group_of(const Interface& interface, const NetworkConfig& network) {
    const auto& groups = network.port_groups;
    const auto name = interface.source ? interface.source->portgroup : std::string{};
    const auto found = std::ranges::find_if(groups, [&](const PortGroup& group) {
        return name.empty() ? group.is_default.value_or(false) : group.name == name;
    });
    if (found != groups.end()) return &*found;
    if (name.empty()) return nullptr;
    throw Error{Code::unsupported_configuration,
                fmt::format("network '{}' has no portgroup '{}' for interface {}", network.name, name, interface.mac)};
}

void fill(std::string& value, const std::string& from) {
    if (value.empty()) value = from;
}

void add_virtual_port(std::optional<VirtualPort>& port, const std::optional<VirtualPort>& from,
                      const NetworkConfig& network) {
    if (!from) return;
    if (!port) {
        port = from;
        return;
    }
    if (!port->type.empty() && !from->type.empty() && port->type != from->type)
        throw Error{Code::unsupported_configuration,
                    fmt::format("network '{}': virtual ports of type '{}' and '{}' cannot be one", network.name,
                                port->type, from->type)};
    fill(port->type, from->type);
    fill(port->manager_id, from->manager_id);
    fill(port->type_id, from->type_id);
    fill(port->type_id_version, from->type_id_version);
    fill(port->instance_id, from->instance_id);
    fill(port->profile_id, from->profile_id);
    fill(port->interface_id, from->interface_id);
}

bool has_tags(const std::optional<Vlan>& vlan) {
    return vlan && !vlan->tags.empty();
}

std::string text_of(const HostPciAddress& at) {
    return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", at.domain, at.bus, at.slot, at.function);
}

bool is_shared(const NetworkConfig& network, const Interface& merged) {
    const auto mode = forward_mode(network);
    if (mode == ForwardMode::passthrough || mode == ForwardMode::hostdev) return false;
    // Such a switch knows one guest behind a device.
    return !(mode == ForwardMode::private_ && merged.virtual_port && merged.virtual_port->type == "802.1Qbh");
}

std::string choose_device(const Interface& merged, const NetworkConfig& network, const PortTable& table) {
    const auto devices = pool_devices(network);
    if (devices.empty())
        throw Error{Code::unsupported_configuration,
                    fmt::format("network '{}' has no device to give to interface {}", network.name, merged.mac)};
    const auto chosen =
        std::ranges::min_element(devices, {}, [&](const std::string& device) { return table.users_of(device); });
    if (!is_shared(network, merged) && table.users_of(*chosen) > 0)
        throw Error{Code::device_in_use,
                    fmt::format("network '{}': all its {} devices are in use by other guests; interface {} needs one "
                                "of its own",
                                network.name, devices.size(), merged.mac)};
    return *chosen;
}

/// As libvirt has it: all floors together stay below the peak, or the average when there is no peak.
void require_room_for_floor(const Interface& merged, const NetworkConfig& network, const PortTable& table) {
    if (!network.bandwidth || !network.bandwidth->inbound)
        throw Error{Code::unsupported_configuration,
                    fmt::format("interface {} wants a guaranteed floor of bandwidth, but network '{}' has no inbound "
                                "bandwidth to guarantee it from",
                                merged.mac, network.name)};
    const auto& has = *network.bandwidth->inbound;
    const auto floor = floor_of(merged.bandwidth->inbound), taken = table.floor_sum();
    const auto most = has.peak.value_or(0) > 0 ? *has.peak : has.average.value_or(0);
    if (taken + floor > most)
        throw Error{
            Code::unsupported_configuration,
            fmt::format("the floor of {} KiB/s of interface {} would overcommit the {} of network '{}': {} of "
                        "{} KiB/s are promised already",
                        floor, merged.mac, has.peak.value_or(0) > 0 ? "peak" : "average", network.name, taken, most)};
}

std::uint32_t free_class(const NetworkConfig& network, const PortTable& table) {
    const auto taken = table.class_ids();
    for (auto id = first_class; id <= last_class; ++id)
        if (std::ranges::find(taken, id) == taken.end()) return id;
    throw Error{Code::limits_exceeded, fmt::format("network '{}' has no class of bandwidth left", network.name)};
}

bool has_floor(const Interface& merged) {
    return merged.bandwidth && floor_of(merged.bandwidth->inbound) > 0;
}

std::string macvtap_mode(ForwardMode mode) {
    return std::string{word(mode)};
}

std::optional<HostPciAddress> address_of(const NetworkConfig& network, const std::string& device) {
    if (!network.forward) return std::nullopt;
    for (const auto& address : network.forward->addresses)
        if (text_of(address) == device) return address;
    return std::nullopt;
}

}  // namespace

// ---- the table

PortTable PortTable::of(const NetworkStatus& status) {
    PortTable table{status.ports, status.class_ids, 0};
    const auto own = table.floor_sum();
    if (status.floor_sum > own) table.other_floors = status.floor_sum - own;
    return table;
}

NetworkPort* PortTable::find(const std::string& id) {
    const auto found = std::ranges::find(ports, id, &NetworkPort::id);
    return found == ports.end() ? nullptr : &*found;
}

const NetworkPort* PortTable::find(const std::string& id) const {
    const auto found = std::ranges::find(ports, id, &NetworkPort::id);
    return found == ports.end() ? nullptr : &*found;
}

void PortTable::remove(const std::string& id) {
    std::erase_if(ports, [&](const NetworkPort& port) { return port.id == id; });
}

std::vector<std::uint32_t> PortTable::class_ids() const {
    auto ids = other_classes;
    for (const auto& port : ports)
        if (port.class_id != 0) ids.push_back(port.class_id);
    return ids;
}

std::uint64_t PortTable::floor_sum() const {
    return std::accumulate(ports.begin(), ports.end(), other_floors, [](std::uint64_t sum, const NetworkPort& port) {
        return sum + (port.class_id != 0 ? floor_of(port.inbound) : 0);
    });
}

std::size_t PortTable::users_of(const std::string& device) const {
    return static_cast<std::size_t>(std::ranges::count(ports, device, &NetworkPort::device));
}

// ---- what an interface gets

std::vector<std::string> pool_devices(const NetworkConfig& network) {
    std::vector<std::string> devices;
    if (!network.forward) return devices;
    const auto& forward = *network.forward;
    if (forward_mode(network) == ForwardMode::hostdev) {
        for (const auto& address : forward.addresses) devices.push_back(text_of(address));
        return devices;
    }
    for (const auto& interface : forward.interfaces) devices.push_back(interface.dev);
    if (devices.empty() && !forward.dev.empty()) devices.push_back(forward.dev);
    return devices;
}

std::string port_group_of(const Interface& interface, const NetworkConfig& network) {
    const auto* group = group_of(interface, network);
    return group ? group->name : std::string{};
}

Interface with_network(Interface interface, const NetworkConfig& network) {
    const auto* group = group_of(interface, network);
    if (!interface.bandwidth && group) interface.bandwidth = group->bandwidth;
    if (!has_tags(interface.vlan) && group && has_tags(group->vlan)) interface.vlan = group->vlan;
    if (!has_tags(interface.vlan) && has_tags(network.vlan)) interface.vlan = network.vlan;
    if (group) add_virtual_port(interface.virtual_port, group->virtual_port, network);
    add_virtual_port(interface.virtual_port, network.virtual_port, network);
    if (!interface.port_isolated) interface.port_isolated = network.port_isolated;
    if (!interface.trust_guest_rx_filters && group) interface.trust_guest_rx_filters = group->trust_guest_rx_filters;
    if (!interface.trust_guest_rx_filters) interface.trust_guest_rx_filters = network.trust_guest_rx_filters;
    if (!interface.mtu) interface.mtu = network.mtu;
    return interface;
}

void allot(NetworkPort& port, const Interface& merged, const NetworkConfig& network, const PortTable& table) {
    if (is_pool(network) && port.device.empty()) port.device = choose_device(merged, network, table);
    if (!has_floor(merged)) return;
    if (!is_virtual(forward_mode(network)))
        throw Error{Code::unsupported_configuration,
                    fmt::format("interface {} wants a guaranteed floor of bandwidth, which network '{}' of mode '{}' "
                                "cannot give",
                                merged.mac, network.name, word(forward_mode(network)))};
    require_room_for_floor(merged, network, table);
    port.class_id = free_class(network, table);
    port.inbound = merged.bandwidth->inbound;
}

Interface resolved(const Interface& merged, const NetworkConfig& network, const NetworkPort& port) {
    auto interface = merged;
    InterfaceSource source;
    const auto mode = forward_mode(network);
    if (mode == ForwardMode::hostdev) {
        interface.type = InterfaceType::hostdev;
        const auto address = address_of(network, port.device);
        if (!address)
            throw Error{Code::unsupported_configuration,
                        fmt::format("network '{}' has no PCI device {} any more", network.name, port.device)};
        source.host_address = *address;
        interface.managed = network.forward->managed;
        if (!network.forward->driver.empty()) {
            if (!interface.driver) interface.driver.emplace();
            interface.driver->name = network.forward->driver;
        }
    } else if (is_pool(network)) {
        interface.type = InterfaceType::direct;
        source.dev = port.device;
        source.mode = macvtap_mode(mode);
    } else {
        interface.type = InterfaceType::bridge;
        source.bridge = network.bridge ? network.bridge->name : std::string{};
        if (network.bridge) source.mac_table_manager = network.bridge->mac_table_manager;
    }
    interface.source = std::move(source);
    // The floor is the network's to keep; what is left limits the link.
    if (interface.bandwidth && interface.bandwidth->inbound) {
        auto& inbound = interface.bandwidth->inbound;
        inbound->floor.reset();
        if (!inbound->average) inbound.reset();
    }
    return interface;
}

Interface shown(Interface asked, const Interface& merged, const Interface& resolved, const NetworkPort& port) {
    if (!asked.source) asked.source.emplace();
    auto& source = *asked.source;
    source.port_id = port.id;
    source.bridge = resolved.source->bridge;
    source.dev = resolved.source->dev;
    source.mode = resolved.source->mode;
    source.host_address = resolved.source->host_address;
    if (source.host_address) {
        asked.managed = resolved.managed;
        if (resolved.driver && !resolved.driver->name.empty()) {
            if (!asked.driver) asked.driver.emplace();
            asked.driver->name = resolved.driver->name;
        }
    }
    asked.mtu = merged.mtu;
    return asked;
}

NetworkConfig with_connections(NetworkConfig config, const PortTable& table) {
    const auto count = [](std::size_t users) {
        return users > 0 ? std::optional{static_cast<std::uint32_t>(users)} : std::nullopt;
    };
    config.connections = count(table.ports.size());
    if (config.forward)
        for (auto& interface : config.forward->interfaces) interface.connections = count(table.users_of(interface.dev));
    return config;
}

NetworkConfig without_connections(NetworkConfig config) {
    return with_connections(std::move(config), {});
}

}  // namespace virtbus
