// SPDX-License-Identifier: LGPL-2.1-or-later
// <interface>: network cards and how they reach the outside.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/device_info.hpp"
#include "virtbus/model/host_address.hpp"
#include "virtbus/model/storage_source.hpp"

namespace virtbus {

enum class InterfaceType {
    bridge,
    network,
    user,
    ethernet,
    direct,
    vhostuser,
    hostdev,
    vdpa,
    mcast,
    client,
    server,
    udp,
    internal,
    null,
    vds
};
template <>
struct Words<InterfaceType> {
    static constexpr std::array<std::string_view, 15> list{"bridge",    "network", "user",     "ethernet", "direct",
                                                           "vhostuser", "hostdev", "vdpa",     "mcast",    "client",
                                                           "server",    "udp",     "internal", "null",     "vds"};
};

struct IpAddress {
    std::string family;  ///< ipv4, ipv6; "" = by the address
    std::string address;
    std::optional<std::uint32_t> prefix;
    std::string peer;
    Unknown unknown;
    bool operator==(const IpAddress&) const = default;
};

struct IpRoute {
    std::string family, address, netmask;
    std::optional<std::uint32_t> prefix;
    std::string gateway;
    std::optional<std::uint32_t> metric;
    Unknown unknown;
    bool operator==(const IpRoute&) const = default;
};

struct InterfaceSource {
    std::string bridge, network, portgroup, port_id;
    std::string mac_table_manager;  ///< kernel, libvirt
    std::string dev;                ///< direct, user, vdpa
    std::string mode;               ///< direct: vepa, bridge, private, passthrough; vhostuser: server, client
    std::string name;               ///< internal
    std::string address;            ///< mcast, client, server, udp
    std::optional<std::uint32_t> port;
    std::string local_address;  ///< udp
    std::optional<std::uint32_t> local_port;
    std::string type, path;  ///< vhostuser: "unix" and its socket
    std::optional<Reconnect> reconnect;
    std::string switch_id, portgroup_id, connection_id;  ///< vds
    std::optional<HostAddress> host_address;             ///< hostdev: a PCI function or a USB device
    std::optional<bool> missing;
    std::vector<IpAddress> ips;  ///< ethernet: on the host's side
    std::vector<IpRoute> routes;
    Unknown unknown;
    bool operator==(const InterfaceSource&) const = default;
};

struct VirtualPort {
    std::string type;  ///< 802.1Qbg, 802.1Qbh, openvswitch, midonet; "" = the network's
    std::string manager_id, type_id, type_id_version, instance_id, profile_id, interface_id;
    Unknown unknown;
    bool operator==(const VirtualPort&) const = default;
};

/// KiB a second, burst in KiB.
struct BandwidthLimit {
    std::optional<std::uint64_t> average, peak, floor, burst;
    Unknown unknown;
    bool operator==(const BandwidthLimit&) const = default;
};

struct Bandwidth {
    std::optional<std::uint32_t> class_id;
    std::optional<BandwidthLimit> inbound, outbound;
    Unknown unknown;
    bool operator==(const Bandwidth&) const = default;
};

struct VlanTag {
    std::uint32_t id = 0;
    std::string native_mode;  ///< tagged, untagged
    Unknown unknown;
    bool operator==(const VlanTag&) const = default;
};

struct Vlan {
    std::optional<bool> trunk;
    std::vector<VlanTag> tags;
    Unknown unknown;
    bool operator==(const Vlan&) const = default;
};

struct FilterParameter {
    std::string name, value;
    Unknown unknown;
    bool operator==(const FilterParameter&) const = default;
};

struct FilterRef {
    std::string filter;
    std::vector<FilterParameter> parameters;
    Unknown unknown;
    bool operator==(const FilterRef&) const = default;
};

struct PortForwardRange {
    std::uint32_t start = 0;
    std::optional<std::uint32_t> end, to;
    std::optional<bool> exclude;
    Unknown unknown;
    bool operator==(const PortForwardRange&) const = default;
};

struct PortForward {
    std::string proto;  ///< tcp, udp
    std::string address, dev;
    std::vector<PortForwardRange> ranges;
    Unknown unknown;
    bool operator==(const PortForward&) const = default;
};

struct InterfaceOffload {
    std::optional<bool> csum, gso, tso4, tso6, ecn, ufo, mrg_rxbuf;
    Unknown unknown;
    bool operator==(const InterfaceOffload&) const = default;
};

struct InterfaceDriver {
    std::string name;    ///< qemu, vhost; hostdev: vfio, kvm, xen
    std::string txmode;  ///< iothread, timer
    std::optional<bool> ioeventfd, event_idx;
    std::optional<std::uint32_t> queues, rx_queue_size, tx_queue_size;
    std::optional<bool> rss, rss_hash_report;
    VirtioOptions virtio;
    std::optional<InterfaceOffload> host, guest;
    Unknown unknown;
    bool operator==(const InterfaceDriver&) const = default;
};

struct InterfaceTarget {
    std::string dev;  ///< the host's side; a prefix reserved for generated names makes it live-only
    std::optional<bool> managed;
    Unknown unknown;
    bool operator==(const InterfaceTarget&) const = default;
};

struct InterfaceGuest {
    std::string dev, actual;
    Unknown unknown;
    bool operator==(const InterfaceGuest&) const = default;
};

struct InterfaceBackend {
    std::string type;  ///< default, passt
    std::string tap, vhost, log_file, hostname, fqdn;
    Unknown unknown;
    bool operator==(const InterfaceBackend&) const = default;
};

struct Teaming {
    std::string type;  ///< persistent, transient
    std::string persistent;
    Unknown unknown;
    bool operator==(const Teaming&) const = default;
};

struct Interface {
    InterfaceType type = InterfaceType::user;
    std::optional<bool> managed;
    std::optional<bool> trust_guest_rx_filters;
    std::string mac;       ///< "52:54:00:..", lower case; "" = to be made
    std::string mac_type;  ///< generated, static
    std::optional<bool> mac_check;
    std::optional<InterfaceSource> source;
    std::vector<IpAddress> ips;  ///< given to the guest
    std::vector<IpRoute> routes;
    std::vector<PortForward> port_forwards;  ///< user, with the passt backend
    std::string script, downscript;
    std::string backenddomain;
    std::optional<InterfaceTarget> target;
    std::optional<VirtualPort> virtual_port;
    std::optional<Vlan> vlan;
    std::optional<bool> port_isolated;
    std::optional<InterfaceGuest> guest;
    std::string model;  ///< virtio, e1000, e1000e, rtl8139 ...; "" = default
    std::optional<InterfaceDriver> driver;
    std::optional<InterfaceBackend> backend;
    std::optional<FilterRef> filterref;
    std::optional<Teaming> teaming;
    std::optional<Bandwidth> bandwidth;
    std::optional<std::uint64_t> sndbuf;
    std::string link_state;  ///< up, down; "" = up
    std::optional<std::uint32_t> mtu;
    std::optional<std::uint32_t> coalesce_rx_frames_max;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Interface&) const = default;
};

/// What a running interface is on the host's side: a virtual network fills in the bridge, the device or the PCI
/// function of a <source network=>, and the word says no more than that there is a network.
constexpr InterfaceType actual_type(const Interface& interface) {
    if (interface.type != InterfaceType::network || !interface.source) return interface.type;
    if (interface.source->host_address) return InterfaceType::hostdev;
    return interface.source->dev.empty() ? InterfaceType::bridge : InterfaceType::direct;
}

}  // namespace virtbus
