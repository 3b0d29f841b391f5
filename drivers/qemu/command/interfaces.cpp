// SPDX-License-Identifier: LGPL-2.1-or-later
// Network cards and their back ends. Taps come as descriptors; who made them is the link provider's business.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "qemu/command/families.hpp"
#include "qemu/pci_devices.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::uint32_t default_vectors_beside_queues = 2;  // configuration and control

const InterfaceSource& source_of(const Interface& interface) {
    static const InterfaceSource none;
    return interface.source ? *interface.source : none;
}

unsigned queues_of(const Interface& interface) {
    return interface.driver ? std::max(interface.driver->queues.value_or(1), 1u) : 1;
}

/// "fd" or, with several queues, "fds".
void set_descriptors(Json& netdev, const char* one, const char* many, const std::vector<int>& numbers) {
    if (numbers.size() == 1)
        netdev.set(one, std::to_string(numbers[0]));
    else if (!numbers.empty())
        netdev.set(many, fmt::format("{}", fmt::join(numbers, ":")));
}

void set_tap(Argv& line, Json& netdev, const Interface& interface, std::size_t index) {
    netdev.set("type", "tap");
    const auto link = line.opened.links.find(index);
    if (line.by_path() || link == line.opened.links.end()) {
        if (interface.target) netdev.set_text("ifname", interface.target->dev);
        netdev.set("script", "no").set("downscript", "no");
        if (queues_of(interface) > 1) netdev.set("queues", queues_of(interface));
    } else {
        std::vector<int> numbers;
        for (auto& fd : link->second.fds) numbers.push_back(line.give(std::move(fd)));
        set_descriptors(netdev, "fd", "fds", numbers);
    }
    std::vector<int> vhost;
    for (unsigned queue = 0; queue < queues_of(interface); ++queue)
        if (auto* file = line.find(fmt::format("vhost:{}{}", index, queue ? fmt::format("/{}", queue) : ""));
            file && file->fd)
            vhost.push_back(line.give(std::move(file->fd)));
    const bool wants_vhost = interface.driver && interface.driver->name == "vhost";
    if (!vhost.empty() || (line.by_path() && wants_vhost)) netdev.set("vhost", true);
    set_descriptors(netdev, "vhostfd", "vhostfds", vhost);
    if (interface.sndbuf) netdev.set("sndbuf", *interface.sndbuf);
}

/// "tcp:address:port-:port" for every port that a <portForward> names.
std::vector<Json> forwards_of(const Interface& interface) {
    constexpr std::size_t most = 1000;
    std::vector<Json> out;
    for (const auto& forward : interface.port_forwards) {
        std::set<std::uint32_t> excluded;
        for (const auto& range : forward.ranges)
            if (range.exclude.value_or(false))
                for (auto port = range.start; port <= std::min(range.end.value_or(range.start), 65535u); ++port)
                    excluded.insert(port);
        for (const auto& range : forward.ranges) {
            if (range.exclude.value_or(false)) continue;
            for (auto port = range.start; port <= std::min(range.end.value_or(range.start), 65535u); ++port) {
                if (excluded.contains(port)) continue;
                const auto to = range.to.value_or(range.start) + (port - range.start);
                out.push_back(Json{}.set("str", fmt::format("{}:{}:{}-:{}", forward.proto, forward.address, port, to)));
                if (out.size() > most)
                    throw Error{Code::unsupported_configuration,
                                fmt::format("interface '{}' forwards more than {} ports", interface.mac, most)};
            }
        }
    }
    return out;
}

/// A back end of type stream looks for its descriptor by number and in another thread, so that one which is plugged
/// cannot have any; type socket says the same over the wire, and takes names.
void set_passt(Argv& line, Json& netdev, const std::string& alias) {
    auto* cable = line.find("passt:" + alias);
    if (cable && cable->fd) {
        netdev.set("type", "socket").set("fd", std::to_string(line.give(std::move(cable->fd))));
        return;
    }
    netdev.set("type", "stream").set("server", false);
    netdev.set("addr", Json{}.set("type", "unix").set("path", alias + "-passt.sock"));
}

void set_user(Argv& line, Json& netdev, const Interface& interface) {
    const bool passt = interface.backend && interface.backend->type == "passt";
    if (passt && !line.runnable()) return set_passt(line, netdev, interface.info.alias);
    netdev.set("type", "user");
    line.out.needs_network = true;
    // What stands for passt in a runnable line forwards nothing.
    if (const auto forwards = forwards_of(interface); !forwards.empty() && !passt) netdev.set("hostfwd", forwards);
    for (const auto& ip : interface.ips) {
        const bool v6 = ip.family == "ipv6" || (ip.family.empty() && ip.address.find(':') != ip.address.npos);
        if (v6)
            netdev.set("ipv6-prefix", ip.address).set("ipv6-prefixlen", ip.prefix.value_or(64));
        else
            netdev.set("net", fmt::format("{}/{}", ip.address, ip.prefix.value_or(24)));
    }
}

void set_socket(Argv& line, Json& netdev, const Interface& interface) {
    const auto& source = source_of(interface);
    const auto at = [](const std::string& host, const std::optional<std::uint32_t>& port) {
        return fmt::format("{}:{}", host, port.value_or(0));
    };
    netdev.set("type", "socket");
    line.out.needs_network = true;
    switch (interface.type) {
        case InterfaceType::mcast:
            netdev.set("mcast", at(source.address, source.port));
            break;
        case InterfaceType::server:
            netdev.set("listen", at(source.address, source.port));
            break;
        case InterfaceType::client:
            netdev.set("connect", at(source.address, source.port));
            break;
        default:
            netdev.set("udp", at(source.address, source.port))
                .set("localaddr", at(source.local_address, source.local_port));
    }
}

void set_vhost_user(Argv& line, Json& netdev, const Interface& interface, const std::string& alias) {
    const auto& source = source_of(interface);
    ChardevBackend backend;
    backend.make_source().path = source.path;
    backend.make_source().mode = source.mode == "server" ? "bind" : "connect";
    backend.make_source().reconnect = source.reconnect;
    netdev.set("type", "vhost-user").set("chardev", add_chardev(line, ChardevType::unix_socket, backend, alias));
    if (queues_of(interface) > 1) netdev.set("queues", queues_of(interface));
}

void set_vdpa(Argv& line, Json& netdev, const Interface& interface, std::size_t index) {
    auto* file = line.find(fmt::format("vdpa:{}", index));
    netdev.set("type", "vhost-vdpa").set("vhostdev", file ? line.fdset(*file) : source_of(interface).dev);
    if (queues_of(interface) > 1) netdev.set("queues", queues_of(interface));
}

bool is_outside(InterfaceType type) {
    return type != InterfaceType::user && type != InterfaceType::null;
}

void add_netdev(Argv& line, const Interface& interface, std::size_t index) {
    const std::string id = "host" + interface.info.alias;
    Json netdev;
    if (line.runnable() && is_outside(interface.type)) {
        netdev.set("type", "user");
        line.out.needs_network = true;
    } else {
        switch (actual_type(interface)) {
            case InterfaceType::bridge:
                // A network that nobody has looked at yet has none.
                if (line.by_path() && !source_of(interface).bridge.empty()) {
                    netdev.set("type", "bridge").set("br", source_of(interface).bridge);
                    break;
                }
                [[fallthrough]];
            case InterfaceType::ethernet:
            case InterfaceType::direct:
                set_tap(line, netdev, interface, index);
                break;
            case InterfaceType::user:
            case InterfaceType::internal:
                set_user(line, netdev, interface);
                break;
            case InterfaceType::mcast:
            case InterfaceType::client:
            case InterfaceType::server:
            case InterfaceType::udp:
                set_socket(line, netdev, interface);
                break;
            case InterfaceType::vhostuser:
                set_vhost_user(line, netdev, interface, interface.info.alias);
                break;
            case InterfaceType::vdpa:
                set_vdpa(line, netdev, interface, index);
                break;
            case InterfaceType::null:
                return;
            default:
                throw Error{Code::unsupported_configuration,
                            fmt::format("interface '{}': QEMU has no back end for type '{}'", interface.mac,
                                        word(interface.type))};
        }
    }
    line.arg("-netdev", netdev.set("id", id).text());
}

std::string driver_of(const Argv& line, const Interface& interface) {
    if (is_virtio_model(interface.model)) return line.virtio_driver("virtio-net", interface.model, interface.info);
    return interface.model == "spapr-vlan" ? "spapr-vlan" : interface.model;
}

void set_offloads(Json& device, const InterfaceDriver& driver) {
    if (driver.host) {
        device.set("csum", driver.host->csum).set("gso", driver.host->gso).set("host_tso4", driver.host->tso4);
        device.set("host_tso6", driver.host->tso6).set("host_ecn", driver.host->ecn).set("host_ufo", driver.host->ufo);
        device.set("mrg_rxbuf", driver.host->mrg_rxbuf);
    }
    if (driver.guest) {
        device.set("guest_csum", driver.guest->csum).set("guest_tso4", driver.guest->tso4);
        device.set("guest_tso6", driver.guest->tso6)
            .set("guest_ecn", driver.guest->ecn)
            .set("guest_ufo", driver.guest->ufo);
    }
}

void set_virtio_net(Json& device, const Interface& interface) {
    if (interface.driver) {
        const auto& driver = *interface.driver;
        if (!driver.txmode.empty()) device.set("tx", driver.txmode == "iothread" ? "bh" : "timer");
        device.set("ioeventfd", driver.ioeventfd).set("event_idx", driver.event_idx);
        set_offloads(device, driver);
        if (const unsigned queues = queues_of(interface); queues > 1) {
            device.set("mq", true);
            if (!interface.info.address_as<CcwAddress>())
                device.set("vectors", 2 * queues + default_vectors_beside_queues);
        }
        device.set("rx_queue_size", driver.rx_queue_size).set("tx_queue_size", driver.tx_queue_size);
        device.set("rss", driver.rss).set("hash", driver.rss_hash_report);
        set_virtio(device, driver.virtio);
    }
    device.set("host_mtu", interface.mtu);
    if (interface.teaming && interface.teaming->type == "persistent") device.set("failover", true);
}

}  // namespace

void add_interfaces(Argv& line) {
    const auto& interfaces = line.config.devices.interfaces;
    for (std::size_t i = 0; i < interfaces.size(); ++i) {
        const Interface& interface = interfaces[i];
        if (actual_type(interface) == InterfaceType::hostdev) continue;  // among the hostdevs
        add_netdev(line, interface, i);
        Json device;
        device.set("driver", driver_of(line, interface));
        if (is_virtio_model(interface.model)) set_virtio_net(device, interface);
        if (interface.type != InterfaceType::null || line.runnable())
            device.set("netdev", "host" + interface.info.alias);
        if (interface.type == InterfaceType::null) device.remove("netdev");
        line.place(device, interface.info);
        device.set("mac", interface.mac).set("bootindex", line.boot_index(interface.info, "network"));
        line.device(device, interface.info.alias);
    }
}

}  // namespace virtbus::qemu
