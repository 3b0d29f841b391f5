// SPDX-License-Identifier: LGPL-2.1-or-later
// Forwarding is turned on for networks and put back, in a network namespace of the test's own.
#include <gtest/gtest.h>

#include <filesystem>

#include "network/sysctl.hpp"
#include "tests/drivers/network_bed.hpp"
#include "tests/support/run.hpp"

using namespace virtbus;
using namespace virtbus::network;
using namespace virtbus::tests;

namespace {

constexpr auto v4 = "net/ipv4/ip_forward";
constexpr auto v6 = "net/ipv6/conf/all/forwarding";

struct NetworkSysctlTest : ::testing::Test {
    void SetUp() override {
        if (!enter_network_namespace()) GTEST_SKIP() << "a network namespace needs root";
        ASSERT_TRUE(
            succeeds("ip link add eth7 type veth peer name eth8 && ip link set eth7 up && ip link set eth8 up"));
    }
    void TearDown() override { (void)std::system("ip link del eth7"); }
    /// Everything below /proc/sys/net that forwarding may touch.
    std::string everything() {
        return output_of("cd /proc/sys/net && grep -s . ipv4/ip_forward ipv4/conf/*/* ipv6/conf/*/*");
    }
    TemporaryFolder folder;
    std::string record = folder.path() + "/forwarding";
};

TEST_F(NetworkSysctlTest, TheLastNetworkPutsItBackByteForByte) {
    for (const auto& [setting, value] : {std::pair{"net/ipv4/conf/eth7/forwarding", "1"},
                                         {"net/ipv6/conf/eth7/forwarding", "1"},
                                         {"net/ipv6/conf/default/forwarding", "1"},
                                         {"net/ipv4/conf/all/accept_redirects", "0"},
                                         {"net/ipv6/conf/eth8/accept_ra", "1"}})
        ASSERT_TRUE(write_setting(setting, value));
    const auto before = everything();
    Forwarding forwarding{record};
    forwarding.hold("a", true, false);
    EXPECT_EQ(read_setting(v4), "1");
    EXPECT_EQ(read_setting(v6), "0") << "nobody asked for it";
    forwarding.hold("b", true, true);
    EXPECT_EQ(read_setting(v6), "1");
    EXPECT_EQ(read_setting("net/ipv6/conf/eth8/accept_ra"), "2") << "routers are believed as before";
    forwarding.release("b");
    EXPECT_EQ(read_setting(v6), "0");
    EXPECT_EQ(read_setting(v4), "1") << "a still needs it";
    forwarding.release("b");
    forwarding.release("a");
    EXPECT_EQ(everything(), before);
    EXPECT_FALSE(std::filesystem::exists(record));
    ASSERT_TRUE(write_setting("net/ipv6/conf/default/forwarding", "0"));
    ASSERT_TRUE(write_setting("net/ipv4/conf/all/accept_redirects", "1"));
}

TEST_F(NetworkSysctlTest, WhatIsOnAlreadyStaysOn) {
    ASSERT_TRUE(write_setting(v4, "1"));
    const auto before = everything();
    Forwarding forwarding{record};
    forwarding.hold("a", true, false);
    EXPECT_EQ(everything(), before);
    forwarding.release("a");
    EXPECT_EQ(everything(), before);
    ASSERT_TRUE(write_setting(v4, "0"));
}

TEST_F(NetworkSysctlTest, ALaterDaemonPutsItBack) {
    const auto before = everything();
    Forwarding{record}.hold("odd %0a\nname", true, true);
    ASSERT_NE(everything(), before);
    Forwarding later{record};
    later.hold("b", true, false);
    later.release("odd %0a\nname");
    EXPECT_EQ(read_setting(v4), "1");
    later.release("b");
    EXPECT_EQ(everything(), before);
}

TEST_F(NetworkSysctlTest, ANetworkMayNeedLessThanBefore) {
    Forwarding forwarding{record};
    forwarding.hold("a", true, true);
    forwarding.hold("a", true, false);
    EXPECT_EQ(read_setting(v6), "0");
    forwarding.release("a");
}

TEST_F(NetworkSysctlTest, WhatSomebodyElseTurnedOffIsNotTurnedOn) {
    const auto accepted = read_setting("net/ipv6/conf/eth7/accept_ra");
    Forwarding forwarding{record};
    forwarding.hold("a", true, true);
    ASSERT_TRUE(write_setting(v4, "0"));
    ASSERT_TRUE(write_setting(v6, "0"));
    ASSERT_TRUE(write_setting("net/ipv4/conf/all/accept_redirects", "0"));
    forwarding.release("a");
    EXPECT_EQ(read_setting(v4), "0");
    EXPECT_EQ(read_setting("net/ipv4/conf/all/accept_redirects"), "0");
    EXPECT_EQ(read_setting("net/ipv6/conf/eth7/accept_ra"), accepted);
    ASSERT_TRUE(write_setting("net/ipv4/conf/all/accept_redirects", "1"));
}

TEST_F(NetworkSysctlTest, WithoutARecordNothingIsChanged) {
    const auto before = everything();
    Forwarding forwarding{folder.path() + "/missing/forwarding"};
    EXPECT_EQ(failure_of([&] { forwarding.hold("a", true, true); }).code(), Code::hypervisor_failed);
    EXPECT_EQ(everything(), before);
}

TEST_F(NetworkSysctlTest, ARecordOfAnotherKindIsNotBelieved) {
    ASSERT_TRUE(succeeds("echo garbage > " + record + " && echo 'before net/ipv4/ip_forward 1' >> " + record));
    Forwarding forwarding{record};
    forwarding.hold("a", true, false);
    forwarding.release("a");
    EXPECT_EQ(read_setting(v4), "0");
}

TEST_F(NetworkSysctlTest, ADeviceThatIsGoneIsNotMissed) {
    ASSERT_TRUE(succeeds("ip link add br0 type bridge"));
    ASSERT_TRUE(write_setting("net/ipv4/conf/br0/forwarding", "1"));
    Forwarding forwarding{record};
    forwarding.hold("a", true, true);
    ASSERT_TRUE(succeeds("ip link del br0"));
    forwarding.release("a");
    EXPECT_EQ(read_setting(v4), "0");
}

}  // namespace
