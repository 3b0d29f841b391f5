// SPDX-License-Identifier: LGPL-2.1-or-later
// What guests are served on a network: addresses and names, with real clients, and how changes reach them.
#include "tests/network/network_bed.hpp"

using namespace virtbus::tests;

namespace {

constexpr const char* served =
    "<bridge name='served0'/><domain name='lab.test' localOnly='yes'/>"
    "<dns><host ip='192.168.77.200'><hostname>printer</hostname></host></dns>"
    "<ip address='192.168.77.1' prefix='24'><dhcp><range start='192.168.77.100' end='192.168.77.150'/>"
    "<host mac='52:54:00:00:00:11' name='fixed' ip='192.168.77.20'/></dhcp></ip>";

struct Dhcp : NetworkBed {
    bool resolves(const Place& place, const std::string& name, const std::string& address) {
        return place.in("busybox nslookup " + name + " 192.168.77.1").text.find(address) != std::string::npos;
    }
};

TEST_F(Dhcp, AGuestGetsTheReservedAddressAnotherADynamicOne) {
    const auto path = up(xml("served", served));
    Place one, two;
    one.plug("one0", "served0", "52:54:00:00:00:11");
    two.plug("two0", "served0", "52:54:00:00:00:22");
    const auto first = ask_for_address(one), second = ask_for_address(two, "-x hostname:loose");
    ASSERT_TRUE(first.ok()) << first.text;
    ASSERT_TRUE(second.ok()) << second.text;
    EXPECT_NE(one.in("ip -4 addr show dev eth0").text.find("192.168.77.20/24"), std::string::npos);
    EXPECT_NE(two.in("ip -4 addr show dev eth0").text.find("192.168.77.1"), std::string::npos);
    EXPECT_EQ(read_file(resolv(one)), "192.168.77.1\n");
    EXPECT_TRUE(resolves(one, "printer.lab.test", "192.168.77.200"));
    EXPECT_TRUE(resolves(two, "fixed.lab.test", "192.168.77.20"));
    EXPECT_TRUE(eventually([&] {
        const auto all = leases(path);
        return all.find("52:54:00:00:00:11") != all.npos && all.find("52:54:00:00:00:22") != all.npos;
    })) << leases(path);
    EXPECT_NE(leases(path).find("loose"), std::string::npos);
    EXPECT_TRUE(one.in("busybox ping -c 1 -W 5 fixed || busybox ping -c 1 -W 5 192.168.77.1").ok());
}

TEST_F(Dhcp, ChangesReachGuestsWithoutANewServer) {
    const auto path = up(xml("served", served));
    const auto pid = dnsmasq_pid("served0");
    ASSERT_FALSE(pid.empty());
    auto answer = update(path, "add-last", "ip-dhcp-host", "<host mac='52:54:00:00:00:33' ip='192.168.77.33'/>");
    ASSERT_TRUE(answer.ok()) << answer.message;
    answer = update(path, "add-last", "dns-host", "<host ip='192.168.77.201'><hostname>plotter</hostname></host>");
    ASSERT_TRUE(answer.ok()) << answer.message;
    Place late;
    late.plug("late0", "served0", "52:54:00:00:00:33");
    ASSERT_TRUE(ask_for_address(late).ok());
    EXPECT_NE(late.in("ip -4 addr show dev eth0").text.find("192.168.77.33/24"), std::string::npos);
    EXPECT_TRUE(eventually([&] { return resolves(late, "plotter.lab.test", "192.168.77.201"); }));
    EXPECT_EQ(dnsmasq_pid("served0"), pid);
    // What it reads only once needs a new one, which knows the leases.
    answer = update(path, "add-last", "dns-txt", "<txt name='example' value='hello'/>");
    ASSERT_TRUE(answer.ok()) << answer.message;
    EXPECT_NE(dnsmasq_pid("served0"), pid);
    EXPECT_NE(leases(path).find("192.168.77.33"), std::string::npos);
}

TEST_F(Dhcp, AKilledServerIsStartedAgainAndThenGivenUp) {
    const auto path = up(xml("served", served));
    for (int times = 0; times < 3; ++times) {
        const auto pid = dnsmasq_pid("served0");
        ASSERT_FALSE(pid.empty());
        ASSERT_EQ(::kill(std::stoi(pid), SIGKILL), 0);
        ASSERT_TRUE(eventually([&] {
            const auto now = dnsmasq_pid("served0");
            return !now.empty() && now != pid && now.find('\n') == now.npos;
        })) << times;
        EXPECT_EQ(property(*client, path, network, "Problem"), "");
    }
    ASSERT_EQ(::kill(std::stoi(dnsmasq_pid("served0")), SIGKILL), 0);
    EXPECT_TRUE(eventually([&] { return property(*client, path, network, "Problem") != ""; }));
    EXPECT_EQ(dnsmasq_pid("served0"), "");
    EXPECT_TRUE(active(path));
}

TEST_F(Dhcp, AGuestGetsAnIPv6AddressToo) {
    const auto path = up(xml("six",
                             "<bridge name='six0'/><ip family='ipv6' address='fd00:77::1' prefix='64'>"
                             "<dhcp><range start='fd00:77::100' end='fd00:77::1ff'/></dhcp></ip>"));
    Place guest;
    guest.plug("guest0", "six0");
    // The router advertisement says whom to ask; the kernel's own part of it is the route.
    EXPECT_TRUE(eventually([&] {
        return guest.in("busybox ping -6 -c 1 -W 1 fd00:77::1 || ip -6 route | grep -q fd00:77::").ok();
    })) << guest.in("ip -6 addr; ip -6 route").text;
}

}  // namespace
