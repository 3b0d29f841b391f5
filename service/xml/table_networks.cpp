// SPDX-License-Identifier: LGPL-2.1-or-later
// Tables of virtual networks: <network> and what Update gives by the piece.
#include "service/xml/tables.hpp"
#include "virtbus/model/network.hpp"

namespace virtbus::xml {

namespace {

// ---- the way out

constexpr Row address_range_rows[]{
    attribute<&AddressRange::start>("start").required(),
    attribute<&AddressRange::end>("end").required(),
};
constinit const Table address_range_table = table<AddressRange>(address_range_rows);
constexpr Row port_range_rows[]{
    attribute<&PortRange::start>("start").range(1, 65535).required(),
    attribute<&PortRange::end>("end").range(1, 65535).required(),
};
constinit const Table port_range_table = table<PortRange>(port_range_rows);
constexpr Row nat_rows[]{
    attribute<&NetworkNat::ipv6>("ipv6").yes_no(),
    element<&NetworkNat::address>("address", address_range_table),
    element<&NetworkNat::port>("port", port_range_table),
};
constinit const Table nat_table = table<NetworkNat>(nat_rows);

constexpr Row card_rows[]{attribute<&ForwardCard::dev>("dev").required()};
constexpr Row forward_interface_rows[]{
    attribute<&ForwardInterface::dev>("dev").required(),
    attribute<&ForwardInterface::connections>("connections"),
};
constexpr Row forward_rows[]{
    attribute<&NetworkForward::dev>("dev"),
    attribute<&NetworkForward::mode>("mode"),
    attribute<&NetworkForward::managed>("managed").yes_no(),
    leaf<&NetworkForward::driver>("driver", "name").one_of("kvm|vfio"),
    element<&NetworkForward::nat>("nat", nat_table),
    element<&NetworkForward::cards>("pf", forward_card_table),
    element<&NetworkForward::interfaces>("interface", forward_interface_table),
    element<&NetworkForward::addresses>("address", host_pci_address_table),
};

// ---- the bridge

constexpr std::uint64_t longest_delay = 3600;  // seconds; the kernel narrows it to what the protocol allows

constexpr Row bridge_rows[]{
    attribute<&NetworkBridge::name>("name"),
    attribute<&NetworkBridge::zone>("zone"),
    attribute<&NetworkBridge::stp>("stp").on_off(),
    attribute<&NetworkBridge::delay>("delay").range(0, longest_delay),
    attribute<&NetworkBridge::mac_table_manager>("macTableManager").one_of("kernel|libvirt"),
};

// ---- names: what says which record is meant may be all that is given of one that is to be deleted

constexpr Row domain_rows[]{
    attribute<&NetworkDomainName::name>("name").required(),
    attribute<&NetworkDomainName::local_only>("localOnly").yes_no(),
    attribute<&NetworkDomainName::register_>("register").yes_no(),
};
constexpr Row forwarder_rows[]{
    attribute<&DnsForwarder::domain>("domain"),
    attribute<&DnsForwarder::address>("addr"),
};
std::string check_forwarder(const void* object) {
    const auto& forwarder = *static_cast<const DnsForwarder*>(object);
    return forwarder.domain.empty() && forwarder.address.empty() ? "attribute 'addr' or 'domain' is needed" : "";
}
constinit const Table forwarder_table = table<DnsForwarder>(forwarder_rows, check_forwarder);
constexpr Row txt_rows[]{
    attribute<&DnsTxt::name>("name").required(),
    attribute<&DnsTxt::value>("value").always(),
};
constexpr Row srv_rows[]{
    attribute<&DnsSrv::service>("service"),
    attribute<&DnsSrv::protocol>("protocol"),
    attribute<&DnsSrv::domain>("domain"),
    attribute<&DnsSrv::target>("target"),
    attribute<&DnsSrv::port>("port").range(1, 65535),
    attribute<&DnsSrv::priority>("priority").range(0, 65535),
    attribute<&DnsSrv::weight>("weight").range(0, 65535),
};
constexpr Row dns_host_rows[]{
    attribute<&DnsHost::ip>("ip"),
    leaf<&DnsHost::hostnames>("hostname"),
};
constexpr Row dns_rows[]{
    attribute<&NetworkDns::enable>("enable").yes_no(),
    attribute<&NetworkDns::forward_plain_names>("forwardPlainNames").yes_no(),
    element<&NetworkDns::forwarders>("forwarder", forwarder_table),
    element<&NetworkDns::texts>("txt", dns_txt_table),
    element<&NetworkDns::services>("srv", dns_srv_table),
    element<&NetworkDns::hosts>("host", dns_host_table),
};
constinit const Table dns_table = table<NetworkDns>(dns_rows);

// ---- addresses

constexpr Row lease_rows[]{
    attribute<&LeaseTime::expiry>("expiry").range(0, UINT32_MAX).required(),
    attribute<&LeaseTime::unit>("unit").one_of("seconds|minutes|hours"),
};
constinit const Table lease_time_table = table<LeaseTime>(lease_rows);
constexpr Row dhcp_range_rows[]{
    attribute<&DhcpRange::start>("start").required(),
    attribute<&DhcpRange::end>("end").required(),
    element<&DhcpRange::lease>("lease", lease_time_table),
};
constexpr Row dhcp_host_rows[]{
    attribute<&DhcpHost::mac>("mac").mac(),
    attribute<&DhcpHost::id>("id"),
    attribute<&DhcpHost::name>("name"),
    attribute<&DhcpHost::ip>("ip"),
    element<&DhcpHost::lease>("lease", lease_time_table),
};
constexpr Row bootp_rows[]{
    attribute<&DhcpBootp::file>("file").required(),
    attribute<&DhcpBootp::server>("server"),
};
constinit const Table bootp_table = table<DhcpBootp>(bootp_rows);
constexpr Row dhcp_rows[]{
    element<&NetworkDhcp::ranges>("range", dhcp_range_table),
    element<&NetworkDhcp::hosts>("host", dhcp_host_table),
    element<&NetworkDhcp::bootp>("bootp", bootp_table),
};
constinit const Table dhcp_table = table<NetworkDhcp>(dhcp_rows);
constexpr Row network_ip_rows[]{
    attribute<&NetworkIp::family>("family").one_of("ipv4|ipv6"),
    attribute<&NetworkIp::address>("address").required(),
    attribute<&NetworkIp::netmask>("netmask"),
    attribute<&NetworkIp::prefix>("prefix").range(0, 128),
    attribute<&NetworkIp::local_ptr>("localPtr").yes_no(),
    leaf<&NetworkIp::tftp_root>("tftp", "root"),
    element<&NetworkIp::dhcp>("dhcp", dhcp_table),
};

// ---- ports

constexpr Row port_group_rows[]{
    attribute<&PortGroup::name>("name").required(),
    attribute<&PortGroup::is_default>("default").yes_no(),
    attribute<&PortGroup::trust_guest_rx_filters>("trustGuestRxFilters").yes_no(),
    element<&PortGroup::vlan>("vlan", vlan_table),
    element<&PortGroup::virtual_port>("virtualport", virtual_port_table).always(),
    element<&PortGroup::bandwidth>("bandwidth", bandwidth_table),
};

// ---- the whole

constexpr Row dnsmasq_rows[]{leaf<&NetworkConfig::dnsmasq_options>("dnsmasq:option", "value")};
constexpr Row network_rows[]{
    attribute<&NetworkConfig::connections>("connections"),
    attribute<&NetworkConfig::ipv6>("ipv6").yes_no(),
    attribute<&NetworkConfig::trust_guest_rx_filters>("trustGuestRxFilters").yes_no(),
    leaf<&NetworkConfig::name>("name"),
    leaf<&NetworkConfig::uuid>("uuid").uuid(),
    leaf<&NetworkConfig::title>("title"),
    leaf<&NetworkConfig::description>("description"),
    verbatim<&NetworkConfig::metadata>("metadata"),
    element<&NetworkConfig::forward>("forward", network_forward_table).always(),
    element<&NetworkConfig::bridge>("bridge", network_bridge_table),
    leaf<&NetworkConfig::mtu>("mtu", "size").range(68, 65535),
    leaf<&NetworkConfig::mac>("mac", "address").mac(),
    element<&NetworkConfig::domain>("domain", network_domain_table),
    element<&NetworkConfig::dns>("dns", dns_table),
    element<&NetworkConfig::vlan>("vlan", vlan_table),
    element<&NetworkConfig::bandwidth>("bandwidth", bandwidth_table),
    leaf<&NetworkConfig::port_isolated>("port", "isolated").yes_no(),
    element<&NetworkConfig::ips>("ip", network_ip_table),
    element<&NetworkConfig::routes>("route", ip_route_table),
    element<&NetworkConfig::virtual_port>("virtualport", virtual_port_table).always(),
    element<&NetworkConfig::port_groups>("portgroup", port_group_table),
    group("dnsmasq:options", dnsmasq_rows),
};

}  // namespace

constinit const Table forward_card_table = table<ForwardCard>(card_rows);
constinit const Table forward_interface_table = table<ForwardInterface>(forward_interface_rows);
constinit const Table network_forward_table = table<NetworkForward>(forward_rows);
constinit const Table network_bridge_table = table<NetworkBridge>(bridge_rows);
constinit const Table network_domain_table = table<NetworkDomainName>(domain_rows);
constinit const Table dns_txt_table = table<DnsTxt>(txt_rows);
constinit const Table dns_srv_table = table<DnsSrv>(srv_rows);
constinit const Table dns_host_table = table<DnsHost>(dns_host_rows);
constinit const Table dhcp_range_table = table<DhcpRange>(dhcp_range_rows);
constinit const Table dhcp_host_table = table<DhcpHost>(dhcp_host_rows);
constinit const Table network_ip_table = table<NetworkIp>(network_ip_rows);
constinit const Table port_group_table = table<PortGroup>(port_group_rows);
constinit const Table network_table = table<NetworkConfig>(network_rows);

}  // namespace virtbus::xml
