// SPDX-License-Identifier: LGPL-2.1-or-later
// NetworkConfig: the model of libvirt's <network>. Absent and default are told apart. How it is written is
// service/xml's business, how it becomes bridges, rules and servers the network driver's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "virtbus/ip.hpp"
#include "virtbus/model/host_address.hpp"
#include "virtbus/model/interface.hpp"

namespace virtbus {

/// How the network reaches what is outside of it; `none` has no <forward>.
enum class ForwardMode { none, nat, route, open, bridge, private_, vepa, passthrough, hostdev };
template <>
struct Words<ForwardMode> {
    static constexpr std::array<std::string_view, 9> list{"none",    "nat",  "route",       "open",   "bridge",
                                                          "private", "vepa", "passthrough", "hostdev"};
};

struct AddressRange {
    std::string start, end;
    Unknown unknown;
    bool operator==(const AddressRange&) const = default;
};
struct PortRange {
    std::uint32_t start = 0, end = 0;
    Unknown unknown;
    bool operator==(const PortRange&) const = default;
};
struct NetworkNat {
    std::optional<bool> ipv6;
    std::optional<AddressRange> address;
    std::optional<PortRange> port;
    Unknown unknown;
    bool operator==(const NetworkNat&) const = default;
};

/// One device of the host that a network gives out: <interface dev=>.
struct ForwardInterface {
    std::string dev;
    std::optional<std::uint32_t> connections;  ///< live: how many guests use it
    Unknown unknown;
    bool operator==(const ForwardInterface&) const = default;
};
/// The card whose virtual functions a network gives out: <pf dev=>.
struct ForwardCard {
    std::string dev;
    Unknown unknown;
    bool operator==(const ForwardCard&) const = default;
};
struct NetworkForward {
    std::optional<ForwardMode> mode;  ///< never `none`; absent is nat
    std::string dev;
    std::optional<bool> managed;
    std::string driver;  ///< hostdev: vfio, kvm
    std::optional<NetworkNat> nat;
    std::vector<ForwardCard> cards;
    std::vector<ForwardInterface> interfaces;
    std::vector<HostPciAddress> addresses;
    Unknown unknown;
    bool operator==(const NetworkForward&) const = default;
};

struct NetworkBridge {
    std::string name;
    std::optional<bool> stp;             ///< absent: on
    std::optional<std::uint32_t> delay;  ///< seconds; absent: 0
    std::string mac_table_manager;       ///< kernel, libvirt
    std::string zone;
    Unknown unknown;
    bool operator==(const NetworkBridge&) const = default;
};

struct NetworkDomainName {
    std::string name;
    std::optional<bool> local_only, register_;
    Unknown unknown;
    bool operator==(const NetworkDomainName&) const = default;
};

struct DnsForwarder {
    std::string domain, address;
    Unknown unknown;
    bool operator==(const DnsForwarder&) const = default;
};
struct DnsTxt {
    std::string name, value;
    Unknown unknown;
    bool operator==(const DnsTxt&) const = default;
};
struct DnsSrv {
    std::string service, protocol, domain, target;
    std::optional<std::uint32_t> port, priority, weight;
    Unknown unknown;
    bool operator==(const DnsSrv&) const = default;
};
struct DnsHost {
    std::string ip;
    std::vector<std::string> hostnames;
    Unknown unknown;
    bool operator==(const DnsHost&) const = default;
};
struct NetworkDns {
    std::optional<bool> enable, forward_plain_names;
    std::vector<DnsForwarder> forwarders;
    std::vector<DnsTxt> texts;
    std::vector<DnsHost> hosts;
    std::vector<DnsSrv> services;
    Unknown unknown;
    bool operator==(const NetworkDns&) const = default;
};

struct LeaseTime {
    std::optional<std::uint64_t> expiry;  ///< 0: never
    std::string unit;                     ///< seconds, minutes, hours; "" = minutes
    Unknown unknown;
    bool operator==(const LeaseTime&) const = default;
};
struct DhcpRange {
    std::string start, end;
    std::optional<LeaseTime> lease;
    Unknown unknown;
    bool operator==(const DhcpRange&) const = default;
};
struct DhcpHost {
    std::string mac, id, name, ip;
    std::optional<LeaseTime> lease;
    Unknown unknown;
    bool operator==(const DhcpHost&) const = default;
};
struct DhcpBootp {
    std::string file, server;
    Unknown unknown;
    bool operator==(const DhcpBootp&) const = default;
};
struct NetworkDhcp {
    std::vector<DhcpRange> ranges;
    std::vector<DhcpHost> hosts;
    std::optional<DhcpBootp> bootp;
    Unknown unknown;
    bool operator==(const NetworkDhcp&) const = default;
};

struct NetworkIp {
    std::string family;  ///< ipv4, ipv6; "" = ipv4
    std::string address, netmask;
    std::optional<std::uint32_t> prefix;
    std::optional<bool> local_ptr;
    std::string tftp_root;
    std::optional<NetworkDhcp> dhcp;
    Unknown unknown;
    bool operator==(const NetworkIp&) const = default;
};

struct PortGroup {
    std::string name;
    std::optional<bool> is_default, trust_guest_rx_filters;
    std::optional<VirtualPort> virtual_port;
    std::optional<Bandwidth> bandwidth;
    std::optional<Vlan> vlan;
    Unknown unknown;
    bool operator==(const PortGroup&) const = default;
};

struct NetworkConfig {
    std::optional<std::uint32_t> connections;  ///< live only
    std::optional<bool> ipv6;                  ///< guests may talk IPv6 though the network has no such address
    std::optional<bool> trust_guest_rx_filters;
    std::string name;
    std::string uuid;  ///< lower case with dashes; "" = to be made
    std::string title, description;
    std::vector<std::string> metadata;  ///< the children of <metadata>, each verbatim with its namespaces
    std::optional<NetworkForward> forward;
    std::optional<NetworkBridge> bridge;
    std::optional<std::uint32_t> mtu;
    std::string mac;
    std::optional<NetworkDomainName> domain;
    std::optional<NetworkDns> dns;
    std::optional<Vlan> vlan;
    std::optional<Bandwidth> bandwidth;
    std::optional<bool> port_isolated;
    std::vector<NetworkIp> ips;
    std::vector<IpRoute> routes;
    std::optional<VirtualPort> virtual_port;
    std::vector<PortGroup> port_groups;
    std::vector<std::string> dnsmasq_options;  ///< <dnsmasq:options>: lines for its configuration, verbatim
    Unknown unknown;

    // Compiled once, in network.cpp, as those of DomainConfig.
    NetworkConfig();
    NetworkConfig(const NetworkConfig&);
    NetworkConfig(NetworkConfig&&) noexcept;
    NetworkConfig& operator=(const NetworkConfig&);
    NetworkConfig& operator=(NetworkConfig&&) noexcept;
    ~NetworkConfig();
    bool operator==(const NetworkConfig&) const;
};

ForwardMode forward_mode(const NetworkConfig& config);
/// Has a bridge that the driver makes: none, nat, route, open.
bool is_virtual(ForwardMode mode);
/// It sends packets of its guests to other networks, so the host must forward them: nat, route, open.
bool is_routed(ForwardMode mode);
/// Gives out devices of the host: private, vepa, passthrough, hostdev, and bridge without a bridge's name.
bool is_pool(const NetworkConfig& config);
/// Address and prefix; without either the class of an IPv4 address decides as it once did, and 64 for IPv6. InvalidXML
/// for what is none.
IpNet net_of(const NetworkIp& ip);
/// Where a static route leads to, by the same rules; 0.0.0.0 and :: without either are everything.
IpNet net_of(const IpRoute& route);
/// DHCP, DNS or router advertisements have to be served.
bool wants_dnsmasq(const NetworkConfig& config);

}  // namespace virtbus
