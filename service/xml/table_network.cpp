// SPDX-License-Identifier: LGPL-2.1-or-later
// Tables of network interfaces.
#include "service/xml/tables.hpp"
#include "virtbus/model/interface.hpp"

namespace virtbus::xml {

namespace {

constexpr Row ip_rows[]{
    attribute<&IpAddress::address>("address").required(),
    attribute<&IpAddress::family>("family").one_of("ipv4|ipv6"),
    attribute<&IpAddress::prefix>("prefix").range(0, 128),
    attribute<&IpAddress::peer>("peer"),
};
constexpr Row route_rows[]{
    attribute<&IpRoute::family>("family").one_of("ipv4|ipv6"),
    attribute<&IpRoute::address>("address").required(),
    attribute<&IpRoute::netmask>("netmask"),
    attribute<&IpRoute::prefix>("prefix").range(0, 128),
    attribute<&IpRoute::gateway>("gateway").required(),
    attribute<&IpRoute::metric>("metric"),
};

constexpr Row local_rows[]{
    attribute<&InterfaceSource::local_address>("address"),
    attribute<&InterfaceSource::local_port>("port").range(0, 65535),
};
constexpr Row source_rows[]{
    attribute<&InterfaceSource::type>("type"),
    attribute<&InterfaceSource::path>("path"),
    attribute<&InterfaceSource::network>("network"),
    attribute<&InterfaceSource::portgroup>("portgroup"),
    attribute<&InterfaceSource::port_id>("portid"),
    attribute<&InterfaceSource::bridge>("bridge"),
    attribute<&InterfaceSource::mac_table_manager>("macTableManager").one_of("kernel|libvirt"),
    attribute<&InterfaceSource::dev>("dev"),
    attribute<&InterfaceSource::mode>("mode").one_of("vepa|private|bridge|passthrough|server|client"),
    attribute<&InterfaceSource::name>("name"),
    attribute<&InterfaceSource::address>("address"),
    attribute<&InterfaceSource::port>("port").range(0, 65535),
    attribute<&InterfaceSource::switch_id>("switchid"),
    attribute<&InterfaceSource::portgroup_id>("portgroupid"),
    attribute<&InterfaceSource::connection_id>("connectionid"),
    attribute<&InterfaceSource::missing>("missing").yes_no(),
    group("local", local_rows),
    element<&InterfaceSource::reconnect>("reconnect", reconnect_table),
    choice<&InterfaceSource::host_address>("address", host_address_choice),
    element<&InterfaceSource::ips>("ip", ip_address_table),
    element<&InterfaceSource::routes>("route", ip_route_table),
};
constinit const Table source_table = table<InterfaceSource>(source_rows);

constexpr Row virtual_port_parameters[]{
    attribute<&VirtualPort::manager_id>("managerid"),
    attribute<&VirtualPort::type_id>("typeid"),
    attribute<&VirtualPort::type_id_version>("typeidversion"),
    attribute<&VirtualPort::instance_id>("instanceid").uuid(),
    attribute<&VirtualPort::interface_id>("interfaceid").uuid(),
    attribute<&VirtualPort::profile_id>("profileid"),
};
constexpr Row virtual_port_rows[]{
    attribute<&VirtualPort::type>("type").one_of("802.1Qbg|802.1Qbh|openvswitch|midonet"),
    group("parameters", virtual_port_parameters),
};

constexpr Row limit_rows[]{
    attribute<&BandwidthLimit::average>("average").range(1, UINT64_MAX),
    attribute<&BandwidthLimit::peak>("peak").range(1, UINT64_MAX),
    attribute<&BandwidthLimit::floor>("floor").range(1, UINT64_MAX),
    attribute<&BandwidthLimit::burst>("burst").range(1, UINT64_MAX),
};
constexpr Row bandwidth_rows[]{
    attribute<&Bandwidth::class_id>("classID"),
    element<&Bandwidth::inbound>("inbound", bandwidth_limit_table),
    element<&Bandwidth::outbound>("outbound", bandwidth_limit_table),
};

constexpr Row tag_rows[]{
    attribute<&VlanTag::id>("id").range(0, 4095).required(),
    attribute<&VlanTag::native_mode>("nativeMode").one_of("tagged|untagged"),
};
constinit const Table tag_table = table<VlanTag>(tag_rows);
constexpr Row vlan_rows[]{
    attribute<&Vlan::trunk>("trunk").yes_no(),
    element<&Vlan::tags>("tag", tag_table).required(),
};

constexpr Row parameter_rows[]{
    attribute<&FilterParameter::name>("name").required(),
    attribute<&FilterParameter::value>("value").always(),
};
constinit const Table parameter_table = table<FilterParameter>(parameter_rows);
constexpr Row filterref_rows[]{
    attribute<&FilterRef::filter>("filter").required(),
    element<&FilterRef::parameters>("parameter", parameter_table),
};

constexpr Row range_rows[]{
    attribute<&PortForwardRange::start>("start").range(1, 65535).required(),
    attribute<&PortForwardRange::end>("end").range(1, 65535),
    attribute<&PortForwardRange::to>("to").range(1, 65535),
    attribute<&PortForwardRange::exclude>("exclude").yes_no(),
};
constinit const Table range_table = table<PortForwardRange>(range_rows);
constexpr Row port_forward_rows[]{
    attribute<&PortForward::proto>("proto").one_of("tcp|udp").required(),
    attribute<&PortForward::address>("address"),
    attribute<&PortForward::dev>("dev"),
    element<&PortForward::ranges>("range", range_table),
};
constinit const Table port_forward_table = table<PortForward>(port_forward_rows);

constexpr Row offload_rows[]{
    attribute<&InterfaceOffload::csum>("csum").on_off(),
    attribute<&InterfaceOffload::gso>("gso").on_off(),
    attribute<&InterfaceOffload::tso4>("tso4").on_off(),
    attribute<&InterfaceOffload::tso6>("tso6").on_off(),
    attribute<&InterfaceOffload::ecn>("ecn").on_off(),
    attribute<&InterfaceOffload::ufo>("ufo").on_off(),
    attribute<&InterfaceOffload::mrg_rxbuf>("mrg_rxbuf").on_off(),
};
constinit const Table offload_table = table<InterfaceOffload>(offload_rows);
constexpr Row driver_rows[]{
    attribute<&InterfaceDriver::name>("name").one_of("qemu|vhost|vfio|kvm|xen").host(),
    attribute<&InterfaceDriver::txmode>("txmode").one_of("iothread|timer").host(),
    attribute<&InterfaceDriver::ioeventfd>("ioeventfd").on_off().host(),
    attribute<&InterfaceDriver::event_idx>("event_idx").on_off(),
    attribute<&InterfaceDriver::queues>("queues").range(1, UINT32_MAX),
    attribute<&InterfaceDriver::rx_queue_size>("rx_queue_size"),
    attribute<&InterfaceDriver::tx_queue_size>("tx_queue_size"),
    attribute<&InterfaceDriver::rss>("rss").on_off(),
    attribute<&InterfaceDriver::rss_hash_report>("rss_hash_report").on_off(),
    inlined<&InterfaceDriver::virtio>(virtio_options_table),
    element<&InterfaceDriver::host>("host", offload_table),
    element<&InterfaceDriver::guest>("guest", offload_table),
};
constinit const Table driver_table = table<InterfaceDriver>(driver_rows);

constexpr Row target_rows[]{
    attribute<&InterfaceTarget::dev>("dev"),
    attribute<&InterfaceTarget::managed>("managed").yes_no(),
};
constinit const Table target_table = table<InterfaceTarget>(target_rows);
constexpr Row guest_rows[]{
    attribute<&InterfaceGuest::dev>("dev"),
    attribute<&InterfaceGuest::actual>("actual"),
};
constinit const Table guest_table = table<InterfaceGuest>(guest_rows);
constexpr Row backend_rows[]{
    attribute<&InterfaceBackend::type>("type").one_of("default|passt"),
    attribute<&InterfaceBackend::tap>("tap"),
    attribute<&InterfaceBackend::vhost>("vhost"),
    attribute<&InterfaceBackend::log_file>("logFile"),
    attribute<&InterfaceBackend::hostname>("hostname"),
    attribute<&InterfaceBackend::fqdn>("fqdn"),
};
constinit const Table backend_table = table<InterfaceBackend>(backend_rows);

constexpr Row teaming_rows[]{
    attribute<&Teaming::type>("type").one_of("persistent|transient").required(),
    attribute<&Teaming::persistent>("persistent"),
};

constexpr Row mac_rows[]{
    attribute<&Interface::mac>("address").mac(),
    attribute<&Interface::mac_type>("type").one_of("generated|static").host(),
    attribute<&Interface::mac_check>("check").yes_no().host(),
};
constexpr Row tune_rows[]{leaf<&Interface::sndbuf>("sndbuf")};
constexpr Row frames_rows[]{leaf<&Interface::coalesce_rx_frames_max>("frames", "max")};
constexpr Row rx_rows[]{group("rx", frames_rows)};

constexpr bool is_hostdev(const Interface& interface) {
    return interface.type == InterfaceType::hostdev;
}
constexpr bool is_not_hostdev(const Interface& interface) {
    return interface.type != InterfaceType::hostdev;
}

constexpr Row interface_rows[]{
    attribute<&Interface::type>("type").required().host(),
    attribute<&Interface::managed>("managed").yes_no().host(),
    attribute<&Interface::trust_guest_rx_filters>("trustGuestRxFilters").yes_no().host(),
    group("mac", mac_rows),
    element<&Interface::driver>("driver", driver_table).only_when<Interface, is_hostdev>(),
    element<&Interface::source>("source", source_table).host(),
    element<&Interface::vlan>("vlan", vlan_table).host(),
    element<&Interface::virtual_port>("virtualport", virtual_port_table).always().host(),
    element<&Interface::bandwidth>("bandwidth", bandwidth_table).host(),
    leaf<&Interface::port_isolated>("port", "isolated").yes_no().host(),
    element<&Interface::ips>("ip", ip_address_table).host(),
    element<&Interface::routes>("route", ip_route_table).host(),
    element<&Interface::port_forwards>("portForward", port_forward_table).host(),
    leaf<&Interface::script>("script", "path").host(),
    leaf<&Interface::downscript>("downscript", "path").host(),
    leaf<&Interface::backenddomain>("backenddomain", "name").host(),
    element<&Interface::target>("target", target_table).host(),
    element<&Interface::guest>("guest", guest_table).host(),
    leaf<&Interface::model>("model", "type"),
    element<&Interface::driver>("driver", driver_table).only_when<Interface, is_not_hostdev>(),
    element<&Interface::backend>("backend", backend_table).host(),
    element<&Interface::filterref>("filterref", filterref_table).host(),
    group("tune", tune_rows).host(),
    element<&Interface::teaming>("teaming", teaming_table),
    leaf<&Interface::link_state>("link", "state").one_of("up|down").host(),
    leaf<&Interface::mtu>("mtu", "size").range(0, 65535),
    group("coalesce", rx_rows).host(),
    inlined<&Interface::info>(device_info_table),
};

std::string check_interface(const void* object) {
    const auto& interface = *static_cast<const Interface*>(object);
    const auto need = [&](auto member, std::string_view name) -> std::string {
        if (interface.source && !((*interface.source).*member).empty()) return "";
        return std::string{"type='"} + std::string{word(interface.type)} + "' needs attribute '" + std::string{name} +
               "' in <source>";
    };
    switch (interface.type) {
        case InterfaceType::network:
            return need(&InterfaceSource::network, "network");
        case InterfaceType::bridge:
            return need(&InterfaceSource::bridge, "bridge");
        case InterfaceType::direct:
        case InterfaceType::vdpa:
            return need(&InterfaceSource::dev, "dev");
        case InterfaceType::vhostuser:
            return need(&InterfaceSource::path, "path");
        case InterfaceType::internal:
            return need(&InterfaceSource::name, "name");
        case InterfaceType::hostdev:
            return interface.source && interface.source->host_address ? ""
                                                                      : "type='hostdev' needs an <address> in <source>";
        case InterfaceType::mcast:
        case InterfaceType::client:
        case InterfaceType::server:
        case InterfaceType::udp:
            return interface.source && interface.source->port ? "" : "this type needs attribute 'port' in <source>";
        default:
            return "";
    }
}

}  // namespace

constinit const Table virtual_port_table = table<VirtualPort>(virtual_port_rows);
constinit const Table bandwidth_table = table<Bandwidth>(bandwidth_rows);
constinit const Table vlan_table = table<Vlan>(vlan_rows);
constinit const Table bandwidth_limit_table = table<BandwidthLimit>(limit_rows);
constinit const Table ip_address_table = table<IpAddress>(ip_rows);
constinit const Table ip_route_table = table<IpRoute>(route_rows);
constinit const Table teaming_table = table<Teaming>(teaming_rows);
constinit const Table filterref_table = table<FilterRef>(filterref_rows);
constinit const Table interface_table = table<Interface>(interface_rows, check_interface);

}  // namespace virtbus::xml
