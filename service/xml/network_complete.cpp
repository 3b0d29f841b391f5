// SPDX-License-Identifier: LGPL-2.1-or-later
// What is filled in, and which elements a mode has.
#include <algorithm>
#include <set>

#include "service/xml/domain_xml.hpp"
#include "service/xml/network_rules.hpp"
#include "service/xml/network_xml.hpp"

namespace virtbus::xml {

namespace {

constexpr std::size_t longest_zone = 64, most_tags = 4095;
constexpr std::uint64_t most_bandwidth = 1ULL << 40U;  ///< KiB a second, or KiB: sums of them stay numbers

bool is_open_vswitch(const std::optional<VirtualPort>& port) {
    return port && port->type == "openvswitch";
}

// ---- names and numbers

void complete_identity(NetworkConfig& config) {
    require_name(config.name, "network");
    if (config.title.find_first_of("\r\n") != std::string::npos) broken_network("the title must be one line");
    if (config.uuid.empty()) config.uuid = random_uuid();
}

// ---- the bridge

void complete_bridge(NetworkConfig& config) {
    const auto mode = forward_mode(config);
    if (is_virtual(mode)) {
        if (!config.bridge) config.bridge.emplace();
        auto& bridge = *config.bridge;
        if (!bridge.stp) bridge.stp = true;
        if (!bridge.delay) bridge.delay = 0;
        if (bridge.name == "virbr%d") bridge.name.clear();  // libvirt's way to ask for a name
        if (config.mac.empty()) config.mac = random_mac();
    } else if (config.bridge) {
        const auto& bridge = *config.bridge;
        if (bridge.stp || bridge.delay || !bridge.zone.empty())
            broken_network("<bridge>: stp, delay and zone are of the bridges that are made here, not of mode='{}'",
                           word(mode));
        if (mode != ForwardMode::bridge)
            broken_network("<bridge> is not allowed with <forward mode='{}'>, which gives out devices", word(mode));
    }
    if (!config.bridge) return;
    if (!config.bridge->name.empty()) require_device_name("<bridge> name", config.bridge->name);
    if (const auto& zone = config.bridge->zone; !zone.empty()) {
        require_dns_name("<bridge> zone", zone);
        if (zone.size() > longest_zone) broken_network("<bridge>: zone has more than {} bytes", longest_zone);
    }
}

// ---- the way out

void check_forward_devices(const NetworkForward& forward) {
    std::set<std::string_view> names;
    for (const auto& interface : forward.interfaces) {
        require_device_name("<forward><interface> dev", interface.dev);
        if (!names.insert(interface.dev).second)
            broken_network("<forward>: <interface dev='{}'> occurs twice", interface.dev);
    }
    if (forward.cards.size() > 1) broken_network("<forward> has {} <pf>; one is allowed", forward.cards.size());
    for (const auto& card : forward.cards) require_device_name("<pf> dev", card.dev);
    for (auto at = forward.addresses.begin(); at != forward.addresses.end(); ++at) {
        if (at->type.empty()) broken_network("<forward>: <address> needs type='pci'");
        const auto same = [&](const HostPciAddress& other) {
            return std::tie(at->domain, at->bus, at->slot, at->function) ==
                   std::tie(other.domain, other.bus, other.slot, other.function);
        };
        if (std::any_of(forward.addresses.begin(), at, same))
            broken_network("<forward>: <address> {:04x}:{:02x}:{:02x}.{:x} occurs twice", at->domain, at->bus, at->slot,
                           at->function);
    }
    if (!forward.interfaces.empty() && !forward.addresses.empty())
        broken_network("<forward> has both <interface> and <address>; a network gives out one kind");
}

/// nat, route, open: packets go through the host.
void check_routed(const NetworkForward& forward, ForwardMode mode) {
    if (!forward.cards.empty() || !forward.addresses.empty())
        broken_network("<forward mode='{}'> has no <pf> or <address>; those are given out by mode='hostdev'",
                       word(mode));
    if (mode == ForwardMode::open && !forward.interfaces.empty())
        broken_network("<forward mode='open'> has no dev: it makes no rules for any device");
    if (forward.interfaces.size() > 1)
        broken_network("<forward mode='{}'> has {} devices; one is allowed", word(mode), forward.interfaces.size());
}

/// bridge, private, vepa, passthrough, hostdev: guests are on the host's own networks.
void check_attached(const NetworkConfig& config, ForwardMode mode) {
    const auto& forward = *config.forward;
    const bool has_bridge = config.bridge && !config.bridge->name.empty();
    const bool gives = !forward.interfaces.empty() || !forward.cards.empty() || !forward.addresses.empty();
    if (mode == ForwardMode::bridge && has_bridge == gives)
        broken_network("<forward mode='bridge'> has either a <bridge name=''> or devices; this has {}",
                       gives ? "both" : "neither");
    if (mode == ForwardMode::hostdev) {
        if (!forward.interfaces.empty() && forward.cards.empty())
            broken_network("<forward mode='hostdev'> gives out a <pf>'s functions or <address>es, not an <interface>");
        if (forward.cards.empty() && forward.addresses.empty())
            broken_network("<forward mode='hostdev'> needs a <pf dev=''> or an <address type='pci'>");
    } else {
        if (!forward.addresses.empty())
            broken_network("<forward mode='{}'> has no <address>; mode='hostdev' has", word(mode));
        if (!has_bridge && !gives)
            broken_network("<forward mode='{}'> needs an <interface dev=''> or a <pf>", word(mode));
    }
}

void complete_forward(NetworkConfig& config) {
    if (!config.forward) return;
    auto& forward = *config.forward;
    forward.mode = forward_mode(config);
    const auto mode = *forward.mode;
    check_forward_devices(forward);
    if (forward.nat && mode != ForwardMode::nat)
        broken_network("<nat> is not allowed with <forward mode='{}'>; mode='nat' has it", word(mode));
    if (mode == ForwardMode::hostdev) {
        if (!forward.managed) forward.managed = false;
    } else if (!forward.driver.empty() || forward.managed.value_or(false)) {
        broken_network("<forward mode='{}'> has neither managed nor <driver>; mode='hostdev' has", word(mode));
    }
    is_virtual(mode) ? check_routed(forward, mode) : check_attached(config, mode);
}

// ---- what only some modes have

void check_mode(const NetworkConfig& config) {
    const auto mode = forward_mode(config);
    const auto only_virtual = [&](bool there, std::string_view element) {
        if (there)
            broken_network("{} is not allowed with <forward mode='{}'>; allowed with: nat, route, open, no <forward>",
                           element, word(mode));
    };
    if (!is_virtual(mode)) {
        only_virtual(!config.ips.empty(), "<ip>");
        only_virtual(!config.routes.empty(), "<route>");
        only_virtual(config.domain.has_value(), "<domain>");
        only_virtual(config.dns.has_value(), "<dns>");
        only_virtual(config.mtu.has_value(), "<mtu>");
        only_virtual(!config.mac.empty(), "<mac>");
        only_virtual(config.bandwidth.has_value(), "<bandwidth> of the whole network");
        only_virtual(!config.dnsmasq_options.empty(), "<dnsmasq:options>");
    }
    if (config.port_isolated && is_pool(config))
        broken_network("<port isolated=''> needs a bridge; <forward mode='{}'> gives out devices", word(mode));
}

// ---- ports: VLANs, bandwidth, groups

void check_virtual_port(const std::optional<VirtualPort>& port, std::string_view of, ForwardMode mode) {
    if (!port || port->type.empty()) return;
    if (is_virtual(mode)) broken_network("{}: <virtualport> is not allowed with a bridge that is made here", of);
    if (is_open_vswitch(port) && mode != ForwardMode::bridge)
        broken_network("{}: <virtualport type='openvswitch'> needs <forward mode='bridge'>, not '{}'", of, word(mode));
}

void check_vlan(const NetworkConfig& config, const std::optional<Vlan>& vlan, std::string_view of) {
    if (!vlan) return;
    const auto mode = forward_mode(config);
    const bool can = mode == ForwardMode::hostdev || mode == ForwardMode::passthrough ||
                     (mode == ForwardMode::bridge && !is_pool(config));
    if (!can)
        broken_network(
            "{}: <vlan> is not allowed here; allowed with <forward mode='bridge'> and a <bridge>, 'hostdev' "
            "and 'passthrough'",
            of);
    if (vlan->tags.empty()) broken_network("{}: <vlan> has no <tag>", of);
    if (vlan->tags.size() > most_tags) broken_network("{}: <vlan> has {} tags", of, vlan->tags.size());
    if (vlan->tags.size() > 1 && !vlan->trunk.value_or(true))
        broken_network("{}: <vlan trunk='no'> has {} tags; one is allowed", of, vlan->tags.size());
    std::set<std::uint32_t> ids;
    int native = 0;
    for (const auto& tag : vlan->tags) {
        if (!ids.insert(tag.id).second) broken_network("{}: <tag id='{}'> occurs twice", of, tag.id);
        native += !tag.native_mode.empty();
    }
    if (native > 1) broken_network("{}: <vlan> has {} tags with a nativeMode; one is allowed", of, native);
}

void check_limit(const std::optional<BandwidthLimit>& limit, std::string_view of, std::string_view direction) {
    if (!limit) return;
    if (!limit->average && !limit->floor)
        broken_network("{}: <{}> needs an average{}", of, direction, direction == "inbound" ? " or a floor" : "");
    if (!limit->average && (limit->peak || limit->burst))
        broken_network("{}: <{}> has peak or burst, which need an average", of, direction);
    for (const auto& value : {limit->average, limit->peak, limit->floor, limit->burst})
        if (value.value_or(0) > most_bandwidth)
            broken_network("{}: <{}>: {} is too much; at most {} are allowed", of, direction, *value, most_bandwidth);
    if (limit->peak && *limit->peak < *limit->average)
        broken_network("{}: <{}>: peak='{}' is less than average='{}'", of, direction, *limit->peak, *limit->average);
}

void check_bandwidth(const std::optional<Bandwidth>& bandwidth, std::string_view of) {
    if (!bandwidth) return;
    check_limit(bandwidth->inbound, of, "inbound");
    check_limit(bandwidth->outbound, of, "outbound");
    if (bandwidth->outbound && bandwidth->outbound->floor)
        broken_network("{}: <outbound> has no floor; only what guests receive can be guaranteed", of);
}

void check_floor(const NetworkConfig& config, const PortGroup& group, std::string_view of) {
    if (!group.bandwidth || !group.bandwidth->inbound || !group.bandwidth->inbound->floor) return;
    if (!is_virtual(forward_mode(config)))
        broken_network("{}: a floor needs a bridge that is made here, not <forward mode='{}'>", of,
                       word(forward_mode(config)));
    const auto* whole = config.bandwidth && config.bandwidth->inbound ? &*config.bandwidth->inbound : nullptr;
    if (!whole || !whole->average)
        broken_network(
            "{}: a floor needs a <bandwidth> of the whole network with an inbound average, of which it is a "
            "part",
            of);
    const auto most = whole->peak.value_or(*whole->average);
    if (*group.bandwidth->inbound->floor > most)
        broken_network("{}: floor='{}' is more than the {} that the whole network has", of,
                       *group.bandwidth->inbound->floor, most);
}

void check_ports(const NetworkConfig& config) {
    const auto mode = forward_mode(config);
    check_virtual_port(config.virtual_port, "<network>", mode);
    check_vlan(config, config.vlan, "<network>");
    check_bandwidth(config.bandwidth, "<network>");
    if (config.bandwidth && config.bandwidth->inbound && config.bandwidth->inbound->floor)
        broken_network("<bandwidth> of the whole network has no floor; those of portgroups and of guests have");
    std::set<std::string_view> names;
    std::string_view standard;
    for (const auto& group : config.port_groups) {
        if (group.name.empty()) broken_network("<portgroup> needs a name");
        const auto of = fmt::format("<portgroup name='{}'>", group.name);
        if (!names.insert(group.name).second) broken_network("{} occurs twice", of);
        if (group.is_default.value_or(false)) {
            if (!standard.empty())
                broken_network("two portgroups are the default: '{}' and '{}'; one can be", standard, group.name);
            standard = group.name;
        }
        check_virtual_port(group.virtual_port, of, mode);
        check_vlan(config, group.vlan, of);
        check_bandwidth(group.bandwidth, of);
        check_floor(config, group, of);
    }
}

}  // namespace

void complete_network(NetworkConfig& config) {
    complete_identity(config);
    settle_forward(config);
    complete_forward(config);
    complete_bridge(config);
    check_mode(config);
    check_addresses(config);
    check_names(config);
    check_ports(config);
}

}  // namespace virtbus::xml
