// SPDX-License-Identifier: LGPL-2.1-or-later
// Bridges of virtual networks, in a network namespace of the test's own.
#include <gtest/gtest.h>
#include <net/if.h>

#include "network/bridge.hpp"
#include "network/sysctl.hpp"
#include "tests/drivers/network_bed.hpp"

using namespace virtbus;
using namespace virtbus::network;
using namespace virtbus::tests;

namespace {

BridgeSetting plain(const std::string& name = "vb0") {
    BridgeSetting setting;
    setting.name = name;
    setting.mac = parse_mac("52:54:00:aa:bb:cc");
    setting.addresses = {*IpNet::parse("192.168.150.1/24")};
    return setting;
}

struct NetworkBridgeTest : ::testing::Test {
    void SetUp() override {
        if (!enter_network_namespace()) GTEST_SKIP() << "a network namespace needs root";
    }
    void TearDown() override {
        for (const auto* name : {"vb0", "vb1", "port0"})
            (void)std::system(("ip link del " + std::string{name} + " 2>/dev/null").c_str());
    }
    std::string shown(const std::string& what) { return output_of("ip -d " + what); }
    bool shows(const std::string& what, const std::string& word) { return shown(what).find(word) != std::string::npos; }
};

TEST_F(NetworkBridgeTest, ItIsMadeWithAllThatIsSet) {
    auto setting = plain();
    setting.stp = true;
    setting.delay = 7;
    setting.mtu = 1400;
    setting.ipv6 = true;
    setting.addresses.push_back(*IpNet::parse("fd00:1::1/64"));
    setting.routes = {{*IpNet::parse("10.55.0.0/16"), *Ip::parse("192.168.150.2"), 5},
                      {*IpNet::parse("fd55::/32"), *Ip::parse("fd00:1::2"), 1}};
    const int index = make_bridge(setting);
    EXPECT_EQ(index, static_cast<int>(::if_nametoindex("vb0")));
    const auto link = shown("link show vb0");
    for (const auto* word : {"52:54:00:aa:bb:cc", "mtu 1400", "forward_delay 700 ", "stp_state 1", ",UP"})
        EXPECT_NE(link.find(word), std::string::npos) << word << " in " << link;
    const auto addresses = shown("address show vb0");
    EXPECT_NE(addresses.find("inet 192.168.150.1/24 brd 192.168.150.255"), std::string::npos) << addresses;
    EXPECT_NE(addresses.find("inet6 fd00:1::1/64"), std::string::npos) << addresses;
    EXPECT_EQ(addresses.find("tentative"), std::string::npos) << addresses;
    EXPECT_TRUE(shows("route", "10.55.0.0/16 via 192.168.150.2 dev vb0 proto static")) << shown("route");
    EXPECT_TRUE(shows("route", "metric 5")) << shown("route");
    EXPECT_TRUE(shows("-6 route", "fd55::/32 via fd00:1::2 dev vb0 proto static")) << shown("-6 route");
    EXPECT_EQ(read_setting("net/ipv6/conf/vb0/accept_ra"), "0");
    EXPECT_EQ(read_setting("net/ipv6/conf/vb0/autoconf"), "0");
    remove_bridge("vb0", index);
    EXPECT_EQ(::if_nametoindex("vb0"), 0u);
    remove_bridge("vb0", index);
}

TEST_F(NetworkBridgeTest, WithoutIpv6TheHostHasNoneThere) {
    make_bridge(plain());
    EXPECT_EQ(read_setting("net/ipv6/conf/vb0/disable_ipv6"), "1");
    ASSERT_TRUE(
        succeeds("ip link add port0 type veth peer name port1 && ip link set port1 up && "
                 "ip link set port0 up master vb0"));
    EXPECT_FALSE(shows("address show vb0", "inet6"));
}

TEST_F(NetworkBridgeTest, ItsAddressAndLengthDoNotFollowItsPorts) {
    auto setting = plain();
    setting.mtu = 9000;
    make_bridge(setting);
    ASSERT_TRUE(
        succeeds("ip link add port0 address 02:00:00:00:00:01 type veth peer name port1 && "
                 "ip link set port0 up master vb0"));
    EXPECT_TRUE(shows("link show vb0", "52:54:00:aa:bb:cc")) << shown("link show vb0");
    EXPECT_TRUE(shows("link show vb0", "mtu 9000")) << shown("link show vb0");
}

TEST_F(NetworkBridgeTest, WithStpADelayIsWhatTheKernelTakes) {
    auto setting = plain();
    make_bridge(setting);
    EXPECT_TRUE(shows("link show vb0", "forward_delay 200 "));
    auto other = plain("vb1");
    other.stp = false;
    other.addresses.clear();
    make_bridge(other);
    EXPECT_TRUE(shows("link show vb1", "forward_delay 0 ")) << shown("link show vb1");
    EXPECT_TRUE(shows("link show vb1", "stp_state 0"));
}

TEST_F(NetworkBridgeTest, ANameThatIsTakenIsToldAndTheOtherStays) {
    ASSERT_TRUE(succeeds("ip link add vb0 type veth peer name port0"));
    const auto error = failure_of([] { make_bridge(plain()); });
    EXPECT_EQ(error.code(), Code::already_exists);
    EXPECT_NE(std::string{error.what()}.find("'vb0'"), std::string::npos) << error.what();
    EXPECT_TRUE(shows("link show vb0", "veth"));
    EXPECT_EQ(find_bridge("vb0"), 0) << "it is no bridge";
    EXPECT_FALSE(bridge_is_there("vb0", static_cast<int>(::if_nametoindex("vb0"))));
    remove_bridge("vb0", static_cast<int>(::if_nametoindex("vb0")));
    EXPECT_NE(::if_nametoindex("vb0"), 0u) << "what is no bridge is not removed";
}

TEST_F(NetworkBridgeTest, NamesThatTheKernelWouldRewriteAreRefused) {
    for (const auto* name : {"", "vb%d", "a/b", "a b", "..", "sixteen-bytes-xx"})
        EXPECT_EQ(failure_of([name] { make_bridge(plain(name)); }).code(), Code::invalid_xml) << name;
}

TEST_F(NetworkBridgeTest, NothingIsLeftWhenAStepFails) {
    auto setting = plain();
    setting.routes = {{*IpNet::parse("10.55.0.0/16"), *Ip::parse("172.16.0.1"), 1}};
    const auto error = failure_of([&] { make_bridge(setting); });
    EXPECT_NE(std::string{error.what()}.find("10.55.0.0/16"), std::string::npos) << error.what();
    EXPECT_EQ(::if_nametoindex("vb0"), 0u);
    setting.routes.clear();
    setting.mtu = 20;
    EXPECT_EQ(failure_of([&] { make_bridge(setting); }).code(), Code::unsupported_configuration);
    EXPECT_EQ(::if_nametoindex("vb0"), 0u);
}

TEST_F(NetworkBridgeTest, ItIsFoundByNameIndexAndAddress) {
    const int index = make_bridge(plain());
    EXPECT_EQ(find_bridge("vb0"), index);
    EXPECT_EQ(find_bridge("vb1"), 0);
    EXPECT_TRUE(bridge_is_there("vb0", index));
    EXPECT_FALSE(bridge_is_there("vb0", index + 1));
    EXPECT_FALSE(bridge_is_there("vb1", index));
    EXPECT_TRUE(bridge_has_mac(index, parse_mac("52:54:00:aa:bb:cc")));
    EXPECT_FALSE(bridge_has_mac(index, parse_mac("52:54:00:aa:bb:cd")));
    EXPECT_FALSE(bridge_has_mac(index + 1000, parse_mac("52:54:00:aa:bb:cc")));
    remove_bridge("vb0", index + 1);
    EXPECT_TRUE(bridge_is_there("vb0", index)) << "another index is another bridge";
}

TEST_F(NetworkBridgeTest, ItIsChangedWhileItIsUp) {
    auto before = plain();
    before.addresses.push_back(*IpNet::parse("192.168.150.7/24"));
    before.routes = {{*IpNet::parse("10.55.0.0/16"), *Ip::parse("192.168.150.2"), 1},
                     {*IpNet::parse("10.56.0.0/16"), *Ip::parse("192.168.150.2"), 1}};
    const int index = make_bridge(before);
    auto after = before;
    after.mac = parse_mac("52:54:00:aa:bb:dd");
    after.mtu = 1300;
    after.stp = false;
    after.delay = 1;
    after.ipv6 = true;
    // The second address stays, though the kernel drops it together with the first.
    after.addresses = {before.addresses[1], *IpNet::parse("10.9.0.1/16"), *IpNet::parse("fd00:2::1/64")};
    after.routes = {before.routes[1], {*IpNet::parse("10.57.0.0/16"), *Ip::parse("10.9.0.2"), 1}};
    change_bridge(index, before, after);
    const auto link = shown("link show vb0");
    for (const auto* word : {"52:54:00:aa:bb:dd", "mtu 1300", "forward_delay 100 ", "stp_state 0", ",UP"})
        EXPECT_NE(link.find(word), std::string::npos) << word << " in " << link;
    const auto addresses = shown("address show vb0");
    EXPECT_EQ(addresses.find("192.168.150.1/24"), std::string::npos) << addresses;
    for (const auto* word : {"192.168.150.7/24", "10.9.0.1/16", "fd00:2::1/64"})
        EXPECT_NE(addresses.find(word), std::string::npos) << word << " in " << addresses;
    const auto routes = shown("route");
    EXPECT_EQ(routes.find("10.55.0.0/16"), std::string::npos) << routes;
    EXPECT_NE(routes.find("10.56.0.0/16 via"), std::string::npos) << routes;
    EXPECT_NE(routes.find("10.57.0.0/16 via"), std::string::npos) << routes;
    change_bridge(index, after, before);
    EXPECT_EQ(read_setting("net/ipv6/conf/vb0/disable_ipv6"), "1");
    EXPECT_FALSE(shows("address show vb0", "fd00:2::1"));
    EXPECT_TRUE(shows("address show vb0", "192.168.150.1/24"));
    EXPECT_TRUE(shows("link show vb0", "mtu 1500"));
    EXPECT_TRUE(shows("link show vb0", "forward_delay 200 ")) << shown("link show vb0");
}

TEST_F(NetworkBridgeTest, ARouteOfSomebodyElseIsNotReplaced) {
    ASSERT_TRUE(
        succeeds("ip link add port0 type veth peer name port1 && ip link set port0 up && "
                 "ip link set port1 up && ip addr add 10.1.0.1/24 dev port0 && "
                 "ip route add 10.55.0.0/16 via 10.1.0.2 metric 1"));
    const auto before = plain();
    const int index = make_bridge(before);
    auto after = before;
    after.routes = {{*IpNet::parse("10.55.0.0/16"), *Ip::parse("192.168.150.2"), 1}};
    EXPECT_EQ(failure_of([&] { change_bridge(index, before, after); }).code(), Code::unsupported_configuration);
    EXPECT_TRUE(shows("route", "10.55.0.0/16 via 10.1.0.2 dev port0")) << shown("route");
    ASSERT_TRUE(succeeds("ip route del 10.55.0.0/16"));
    change_bridge(index, before, after);
    change_bridge(index, before, after);
    EXPECT_TRUE(shows("route", "10.55.0.0/16 via 192.168.150.2 dev vb0")) << shown("route");
}

TEST_F(NetworkBridgeTest, AChangeThatFailsLeavesItAsItWas) {
    const auto before = plain();
    const int index = make_bridge(before);
    auto after = before;
    after.mtu = 1300;
    after.addresses = {*IpNet::parse("10.9.0.1/16")};
    after.routes = {{*IpNet::parse("10.55.0.0/16"), *Ip::parse("172.16.0.1"), 1}};
    failure_of([&] { change_bridge(index, before, after); });
    EXPECT_TRUE(shows("link show vb0", "mtu 1500"));
    EXPECT_TRUE(shows("address show vb0", "192.168.150.1/24")) << shown("address show vb0");
    EXPECT_FALSE(shows("address show vb0", "10.9.0.1"));
    after.routes.clear();
    change_bridge(index, after, before);
    EXPECT_TRUE(shows("address show vb0", "192.168.150.1/24")) << "what is as it shall be already is no error";
    remove_bridge("vb0", index);
    EXPECT_EQ(failure_of([&] { change_bridge(index, before, after); }).code(), Code::invalid_state);
}

TEST_F(NetworkBridgeTest, ItsSettingIsTheDefinitions) {
    NetworkConfig config;
    config.bridge.emplace().name = "vb0";
    config.mac = "52:54:00:aa:bb:cc";
    config.ips = {{.address = "10.0.0.1", .netmask = "255.255.0.0"}};
    config.routes = {{.family = "ipv6", .address = "fd55::1", .prefix = 32, .gateway = "fd00:1::2"}};
    auto setting = bridge_setting(config);
    EXPECT_TRUE(setting.stp);
    EXPECT_EQ(setting.delay, 0u);
    EXPECT_FALSE(setting.ipv6);
    EXPECT_EQ(setting.addresses, (std::vector{*IpNet::parse("10.0.0.1/16")}));
    EXPECT_EQ(setting.routes, (std::vector<BridgeRoute>{{*IpNet::parse("fd55::/32"), *Ip::parse("fd00:1::2"), 1}}));
    config.ipv6 = true;
    EXPECT_TRUE(bridge_setting(config).ipv6);
    config.routes[0].gateway = "10.0.0.2";
    EXPECT_EQ(failure_of([&] { bridge_setting(config); }).code(), Code::invalid_xml);
}

}  // namespace
