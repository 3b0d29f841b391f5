// SPDX-License-Identifier: LGPL-2.1-or-later
// What an interface gets of a network: whose word counts, which device, which class.
#include "service/networking/network_ports.hpp"

#include <gtest/gtest.h>

#include "service/networking/network_guards.hpp"
#include "tests/service/world.hpp"

namespace virtbus::tests {
namespace {

Bandwidth inbound(std::uint64_t average) {
    Bandwidth bandwidth;
    bandwidth.inbound.emplace().average = average;
    return bandwidth;
}
Vlan vlan(std::uint32_t id) {
    Vlan vlan;
    vlan.tags.push_back({id, "", {}});
    return vlan;
}
VirtualPort port(const std::string& type, const std::string& profile = {}, const std::string& interface = {}) {
    VirtualPort port;
    port.type = type;
    port.profile_id = profile;
    port.interface_id = interface;
    return port;
}

struct Ports : ::testing::Test {
    Ports() {
        network.name = "lan";
        network.bridge.emplace().name = "br0";
        network.port_groups = {group("slow", true), group("fast", false)};
        interface.type = InterfaceType::network;
        interface.mac = "52:54:00:00:00:01";
        interface.source.emplace().network = "lan";
    }
    static PortGroup group(const std::string& name, bool by_default) {
        PortGroup group;
        group.name = name;
        group.is_default = by_default;
        group.bandwidth = inbound(name == "fast" ? 1000 : 10);
        return group;
    }
    NetworkConfig network;
    Interface interface;
    PortTable table;
};

TEST_F(Ports, TheNamedPortgroupCountsElseTheDefaultOne) {
    EXPECT_EQ(port_group_of(interface, network), "slow");
    interface.source->portgroup = "fast";
    EXPECT_EQ(port_group_of(interface, network), "fast");
    EXPECT_EQ(with_network(interface, network).bandwidth->inbound->average, 1000u);
    interface.source->portgroup = "none";
    EXPECT_REFUSED((void)with_network(interface, network), Code::unsupported_configuration, "no portgroup 'none'");
    interface.source->portgroup.clear();
    network.port_groups.erase(network.port_groups.begin());
    EXPECT_EQ(port_group_of(interface, network), "");
    EXPECT_FALSE(with_network(interface, network).bandwidth.has_value());
}

TEST_F(Ports, TheInterfaceSpeaksBeforeThePortgroupAndThatBeforeTheNetwork) {
    network.vlan = vlan(1);
    network.trust_guest_rx_filters = true;
    network.port_isolated = true;
    network.mtu = 1400;
    network.bandwidth = inbound(77);
    auto merged = with_network(interface, network);
    EXPECT_EQ(merged.vlan->tags[0].id, 1u);
    EXPECT_EQ(merged.trust_guest_rx_filters, true);
    EXPECT_EQ(merged.port_isolated, true);
    EXPECT_EQ(merged.mtu, 1400u);
    EXPECT_EQ(merged.bandwidth->inbound->average, 10u);  // the network's own is that of all together
    network.port_groups[0].vlan = vlan(2);
    network.port_groups[0].trust_guest_rx_filters = false;
    merged = with_network(interface, network);
    EXPECT_EQ(merged.vlan->tags[0].id, 2u);
    EXPECT_EQ(merged.trust_guest_rx_filters, false);
    interface.vlan = vlan(3);
    interface.trust_guest_rx_filters = true;
    interface.port_isolated = false;
    interface.mtu = 9000;
    interface.bandwidth = inbound(5);
    merged = with_network(interface, network);
    EXPECT_EQ(merged.vlan->tags[0].id, 3u);
    EXPECT_EQ(merged.trust_guest_rx_filters, true);
    EXPECT_EQ(merged.port_isolated, false);
    EXPECT_EQ(merged.mtu, 9000u);
    EXPECT_EQ(merged.bandwidth->inbound->average, 5u);
}

TEST_F(Ports, VirtualPortsAreMergedWordByWord) {
    interface.virtual_port = port("", "", "id-of-interface");
    network.port_groups[0].virtual_port = port("openvswitch", "of-group");
    network.virtual_port = port("openvswitch", "of-network", "id-of-network");
    const auto merged = with_network(interface, network);
    EXPECT_EQ(merged.virtual_port->type, "openvswitch");
    EXPECT_EQ(merged.virtual_port->profile_id, "of-group");
    EXPECT_EQ(merged.virtual_port->interface_id, "id-of-interface");
    interface.virtual_port->type = "802.1Qbg";
    EXPECT_REFUSED((void)with_network(interface, network), Code::unsupported_configuration, "802.1Qbg");
}

TEST_F(Ports, ASwitchThatKnowsOneGuestADeviceSharesNone) {
    network.bridge.reset();
    network.forward.emplace().mode = ForwardMode::private_;
    network.forward->interfaces = {{"eth1", {}, {}}};
    table.ports.push_back({.id = "p", .device = "eth1", .inbound = {}});
    NetworkPort fresh;
    interface.virtual_port = port("802.1Qbh");
    EXPECT_REFUSED(allot(fresh, with_network(interface, network), network, table), Code::device_in_use, "lan");
    interface.virtual_port.reset();
    allot(fresh, with_network(interface, network), network, table);
    EXPECT_EQ(fresh.device, "eth1");
}

TEST_F(Ports, ClassesOfOthersAreLeftAlone) {
    network.bandwidth = inbound(100);
    interface.bandwidth = inbound(1);
    interface.bandwidth->inbound->floor = 40;
    table.other_classes = {3, 5};
    table.other_floors = 50;
    NetworkPort first, second;
    allot(first, interface, network, table);
    EXPECT_EQ(first.class_id, 4u);
    table.ports.push_back(first);
    EXPECT_REFUSED(allot(second, interface, network, table), Code::unsupported_configuration, "90 of 100");
    interface.bandwidth->inbound->floor = 10;
    allot(second, interface, network, table);
    EXPECT_EQ(second.class_id, 6u);
}

TEST_F(Ports, ARecordGivesBackWhatItSaysOfOthers) {
    NetworkStatus status;
    status.class_ids = {3};
    status.floor_sum = 70;
    NetworkPort own;
    own.id = "p";
    own.class_id = 4;
    own.inbound.emplace().floor = 20;
    status.ports = {own};
    const auto back = PortTable::of(status);
    EXPECT_EQ(back.other_floors, 50u);
    EXPECT_EQ(back.floor_sum(), 70u);
    EXPECT_EQ(back.class_ids(), (std::vector<std::uint32_t>{3, 4}));
}

// ---- what would break

struct Breaks : Ports {
    Breaks() {
        network.ips = {ip("10.0.0.1")};
        NetworkPort web{.id = "a", .domain_name = "web", .port_group = "fast", .inbound = {}};
        NetworkPort db{.id = "b", .domain_name = "db", .inbound = {}};
        table.ports = {web, db, db};
    }
    static NetworkIp ip(const std::string& address) {
        NetworkIp ip;
        ip.address = address;
        ip.prefix = 24;
        return ip;
    }
};

TEST_F(Breaks, AnAddressThatGoesIsEverybodys) {
    auto after = network;
    after.ips.push_back(ip("10.0.1.1"));
    EXPECT_FALSE(breakage(network, after, table).has_value());
    after.ips.erase(after.ips.begin());
    const auto broken = breakage(network, after, table);
    ASSERT_TRUE(broken.has_value());
    EXPECT_EQ(broken->domains, (std::vector<std::string>{"db", "web"}));
    EXPECT_NE(broken->what.find("10.0.0.1/24"), std::string::npos);
    EXPECT_FALSE(breakage(network, after, {}).has_value());
}

TEST_F(Breaks, ABridgeOrAModeIsEverybodys) {
    auto after = network;
    after.bridge->name = "br1";
    EXPECT_TRUE(breakage(network, after, table).has_value());
    after = network;
    after.forward.emplace().mode = ForwardMode::route;
    EXPECT_TRUE(breakage(network, after, table).has_value());
}

TEST_F(Breaks, TheDefaultPortgroupMayBecomeAnother) {
    auto after = network;
    after.port_groups[0].is_default = false;
    after.port_groups[1].is_default = true;
    EXPECT_FALSE(breakage(network, after, table).has_value());
    after.port_groups.erase(after.port_groups.begin());
    EXPECT_FALSE(breakage(network, after, table).has_value());
    after.port_groups.clear();
    EXPECT_EQ(breakage(network, after, table)->domains, std::vector<std::string>{"web"});
}

TEST_F(Breaks, FloorsThatWereGivenMustStillFit) {
    table.ports[0].class_id = 3;
    table.ports[0].inbound.emplace().floor = 100;
    auto after = network;
    after.bandwidth = inbound(100);
    EXPECT_FALSE(breakage(network, after, table).has_value());
    after.bandwidth = inbound(99);
    EXPECT_EQ(breakage(network, after, table)->domains, std::vector<std::string>{"web"});
    after.bandwidth.reset();
    EXPECT_TRUE(breakage(network, after, table).has_value());
}

}  // namespace
}  // namespace virtbus::tests
