// SPDX-License-Identifier: LGPL-2.1-or-later
// In a network namespace of its own: nothing here touches the host's network.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netlink/route/link/bridge.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <cstring>

#include "network/netlink.hpp"
#include "network/tap.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {
namespace {

class Taps : public testing::Test {
protected:
    void SetUp() override {
        if (::unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "no network namespace permitted: " << std::strerror(errno);
        if (::access("/dev/net/tun", R_OK | W_OK) != 0) GTEST_SKIP() << "no /dev/net/tun";
        socket = connect_route();
    }
    void make_bridge(const std::string& name, unsigned mtu = 1500) {
        const LinkObject bridge{rtnl_link_bridge_alloc()};
        rtnl_link_set_name(bridge.get(), name.c_str());
        rtnl_link_set_mtu(bridge.get(), mtu);
        ASSERT_GE(rtnl_link_add(socket.get(), bridge.get(), NLM_F_CREATE | NLM_F_EXCL), 0);
    }
    LinkObject get(const std::string& name) { return find_link(socket.get(), 0, name); }
    std::string mac(const std::string& name) {
        char text[32];
        return nl_addr2str(rtnl_link_get_addr(get(name).get()), text, sizeof text);
    }

    Socket socket;
};

Code code_of(auto work) {
    try {
        work();
    } catch (const Error& error) {
        return error.code();
    }
    return Code::internal;
}

TEST_F(Taps, ABridgePortTakesTheBridgesMtuAndIsUp) {
    make_bridge("br0", 1400);
    const Tap tap = make_tap({.mac = host_mac(parse_mac("52:54:00:11:22:33")), .bridge = "br0"});
    EXPECT_EQ(tap.name, "vnet0");
    EXPECT_EQ(tap.fds.size(), 1u);
    const auto link = get("vnet0");
    ASSERT_TRUE(link);
    EXPECT_EQ(rtnl_link_get_mtu(link.get()), 1400u);
    EXPECT_EQ(rtnl_link_get_master(link.get()), rtnl_link_get_ifindex(get("br0").get()));
    EXPECT_TRUE(rtnl_link_get_flags(link.get()) & IFF_UP);
    EXPECT_EQ(mac("vnet0"), "fe:54:00:11:22:33");
}

TEST_F(Taps, NamesAreUnique) {
    const Tap first = make_tap({}), second = make_tap({}), named = make_tap({.name = "mine"});
    EXPECT_NE(first.name, second.name);
    EXPECT_EQ(named.name, "mine");
    EXPECT_EQ(code_of([] { make_tap({.name = "mine"}); }), Code::device_in_use);
    EXPECT_EQ(code_of([] { make_tap({.name = "sixteen-bytes-xx"}); }), Code::invalid_xml);
}

TEST_F(Taps, AMultiQueueTapHasOneDescriptorPerQueueAndIsNotJoined) {
    const Tap tap = make_tap({.name = "many", .queues = 4});
    EXPECT_EQ(tap.fds.size(), 4u);
    EXPECT_EQ(code_of([] { make_tap({.name = "many", .queues = 2}); }), Code::device_in_use);
    EXPECT_EQ(code_of([] { make_tap({.queues = 0}); }), Code::unsupported_configuration);
    EXPECT_EQ(code_of([] { make_tap({.queues = 100000}); }), Code::unsupported_configuration);
}

TEST_F(Taps, AFailureLeavesNothingBehind) {
    EXPECT_EQ(code_of([] { make_tap({.name = "left", .bridge = "nowhere"}); }), Code::unsupported_configuration);
    EXPECT_FALSE(get("left"));
    const Tap other = make_tap({.name = "nobridge"});
    EXPECT_EQ(code_of([] { make_tap({.name = "left", .bridge = "nobridge"}); }), Code::unsupported_configuration);
    EXPECT_FALSE(get("left"));
}

TEST_F(Taps, RemovingSparesAnotherDeviceOfThatName) {
    Tap tap = make_tap({.name = "gone"});
    remove_tap("gone", tap.index + 1000);
    EXPECT_TRUE(get("gone"));
    remove_tap("other", tap.index);
    EXPECT_TRUE(get("gone"));
    remove_tap("gone", tap.index);
    EXPECT_FALSE(get("gone"));
    remove_tap("gone", tap.index);
}

TEST_F(Taps, AnIsolatedPortIsMarkedSo) {
    make_bridge("br0");
    const Tap tap = make_tap({.bridge = "br0", .isolated = true});
    EXPECT_TRUE(get(tap.name));
    EXPECT_EQ(std::system(("bridge -d link show dev " + tap.name + " | grep -q 'isolated on'").c_str()), 0);
}

TEST_F(Taps, AnExistingTapIsUsedAsItIs) {
    EXPECT_EQ(code_of([] { attach_tap("theirs", 1, true); }), Code::unsupported_configuration);
    ASSERT_EQ(std::system("ip tuntap add dev theirs mode tap vnet_hdr && ip link set dev theirs mtu 1300"), 0);
    const auto before = mac("theirs");
    {
        const Tap tap = attach_tap("theirs", 1, true);
        EXPECT_EQ(tap.fds.size(), 1u);
        EXPECT_EQ(mac("theirs"), before);
        EXPECT_EQ(rtnl_link_get_mtu(get("theirs").get()), 1300u);
        EXPECT_FALSE(rtnl_link_get_flags(get("theirs").get()) & IFF_UP);
    }
    EXPECT_TRUE(get("theirs"));
    make_bridge("br0");
    EXPECT_EQ(code_of([] { attach_tap("br0", 1, true); }), Code::unsupported_configuration);
}

TEST(Mac, IsParsedStrictlyAndTurnedForTheHost) {
    EXPECT_EQ(parse_mac("52:54:00:aa:BB:0c"), (MacAddress{0x52, 0x54, 0, 0xaa, 0xbb, 0x0c}));
    for (const char* bad :
         {"", "52:54:00:aa:bb", "52:54:00:aa:bb:cc:dd", "52:54:00:aa:bb:ccc", "52-54-00-aa-bb-cc", "x"})
        EXPECT_EQ(code_of([&] { parse_mac(bad); }), Code::invalid_xml) << bad;
    EXPECT_EQ(host_mac({0x52, 1, 2, 3, 4, 5})[0], 0xFE);
    EXPECT_EQ(host_mac({0xFE, 1, 2, 3, 4, 5})[0], 0xFA);
}

}  // namespace
}  // namespace virtbus::network
