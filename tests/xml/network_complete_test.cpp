// SPDX-License-Identifier: LGPL-2.1-or-later
// What a definition of a network is completed with, and every rule: what breaks it and what is just allowed.
#include "network_support.hpp"

namespace virtbus::xml {
namespace {

const std::string one_ip = "<ip address='192.168.5.1' prefix='24'/>";

std::string dhcp(const std::string& elements) {
    return "<ip address='192.168.5.1' prefix='24'><dhcp>" + elements + "</dhcp></ip>";
}
std::string dhcp6(const std::string& elements) {
    return "<ip family='ipv6' address='fd00::1' prefix='64'><dhcp>" + elements + "</dhcp></ip>";
}

// ---- what is filled in

TEST(CompleteNetwork, FillsInIdentityAndBridge) {
    const auto config = complete_net("");
    EXPECT_EQ(config.uuid.size(), 36U);
    EXPECT_TRUE(config.mac.starts_with("52:54:00:")) << config.mac;
    ASSERT_TRUE(config.bridge);
    EXPECT_EQ(config.bridge->name, "");
    EXPECT_EQ(config.bridge->stp, true);
    EXPECT_EQ(config.bridge->delay, 0U);
    EXPECT_FALSE(config.forward);
}

TEST(CompleteNetwork, KeepsWhatIsThere) {
    const auto config = complete_net(
        "<uuid>9a05da11-e96b-47f3-8253-a3a482e445f5</uuid><mac address='52:54:00:00:00:01'/>"
        "<bridge name='br7' stp='off' delay='2'/>");
    EXPECT_EQ(config.uuid, "9a05da11-e96b-47f3-8253-a3a482e445f5");
    EXPECT_EQ(config.mac, "52:54:00:00:00:01");
    EXPECT_EQ(config.bridge->stp, false);
    EXPECT_EQ(config.bridge->delay, 2U);
}

TEST(CompleteNetwork, ForwardWithoutModeIsNat) {
    EXPECT_EQ(complete_net("<forward/>" + one_ip).forward->mode, ForwardMode::nat);
    EXPECT_EQ(complete_net("<forward dev='eth0'/>" + one_ip).forward->interfaces.at(0).dev, "eth0");
    EXPECT_EQ(complete_net("<forward><interface dev='eth0'/></forward>" + one_ip).forward->dev, "eth0");
    EXPECT_FALSE(complete_net("<forward mode='none'/>").forward);
}

TEST(CompleteNetwork, MakesNoMacForBridgesOfOthers) {
    EXPECT_EQ(complete_net("<forward mode='bridge'/><bridge name='br0'/>").mac, "");
}

TEST(CompleteNetwork, ATemplateForTheNameIsNoName) {
    EXPECT_EQ(complete_net("<bridge name='virbr%d'/>").bridge->name, "");
}

// ---- DHCP

TEST(NetworkDhcp, HasItsRangesInTheNetwork) {
    EXPECT_REFUSED(network_refusal(dhcp("<range start='192.168.6.2' end='192.168.6.9'/>")), Code::invalid_xml,
                   "'192.168.6.2' is not in the network 192.168.5.0/24");
    EXPECT_REFUSED(network_refusal(dhcp6("<range start='fd01::2' end='fd01::9'/>")), Code::invalid_xml,
                   "'fd01::2' is not in the network fd00::/64");
}

}  // namespace
}  // namespace virtbus::xml
