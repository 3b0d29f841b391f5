// SPDX-License-Identifier: LGPL-2.1-or-later
// Where packets go and where they do not, between guests of networks and the outside.
#include "tests/network/network_bed.hpp"

using namespace virtbus::tests;

namespace {

/// The test's network is the host, `outside` is reached through it, `guest` is on a network.
struct Forward : NetworkBed {
    void SetUp() override {
        NetworkBed::SetUp();
        if (IsSkipped() || HasFatalFailure()) return;
        outside = std::make_unique<Place>();
        outside->plug("out0", "");
        say("ip addr add 203.0.113.1/24 dev out0; ip -6 addr add 2001:db8:1::1/64 dev out0 nodad");
        outside->in("ip addr add 203.0.113.2/24 dev eth0; ip -6 addr add 2001:db8:1::2/64 dev eth0 nodad");
        guest = std::make_unique<Place>();
    }
    void TearDown() override {
        guest.reset();
        outside.reset();
        NetworkBed::TearDown();
    }
    /// As DHCP would give it.
    void settle(const Place& place, const std::string& here, const std::string& bridge, const std::string& address,
                const std::string& gateway) {
        place.plug(here, bridge);
        place.in("ip addr add " + address + " dev eth0 && ip route add default via " + gateway);
        ASSERT_TRUE(eventually([&] { return place.in("busybox ping -c 1 -W 1 " + gateway).ok(); }))
            << "no way to the host";
    }
    static bool reaches(const Place& from, const std::string& address) {
        return from.in("busybox ping -c 1 -W 2 " + address).ok();
    }
    /// The address that `to` sees when `from` connects to it; "" when that does not come about.
    std::string seen_address(const Place& from, const Place& to, const std::string& address) {
        const auto port = std::to_string(next_port_++);
        const auto file = bed.folder / ("seen." + port);
        const auto program = "import socket; s = socket.socket(); s.bind(('', " + port +
                             ")); s.listen(); print('ready', flush=True); print(s.accept()[1][0], flush=True)";
        Process server{
            {"nsenter", "--net=/proc/" + std::to_string(to.pid()) + "/ns/net", "--", "python3", "-c", program},
            {},
            file,
            file};
        if (!eventually([&] { return read_file(file).starts_with("ready"); })) return "";
        if (!from.in("echo hello | timeout 5 busybox nc -w 2 " + address + " " + port).ok()) return "";
        server.wait();
        return read_file(file);
    }

    std::unique_ptr<Place> outside, guest;

private:
    static inline int next_port_ = 20000;
};

TEST_F(Forward, NatLeadsOutUnderTheHostsAddressAndNotIn) {
    const auto path =
        up(xml("nat", "<forward mode='nat'/><bridge name='nat0'/><ip address='192.168.78.1' prefix='24'/>"));
    settle(*guest, "guest0", "nat0", "192.168.78.10/24", "192.168.78.1");
    EXPECT_TRUE(reaches(*guest, "203.0.113.2"));
    const auto seen = seen_address(*guest, *outside, "203.0.113.2");
    EXPECT_NE(seen.find("203.0.113.1"), std::string::npos) << seen;
    EXPECT_EQ(seen.find("192.168.78.10"), std::string::npos) << seen;
    outside->in("ip route add 192.168.78.0/24 via 203.0.113.1");
    EXPECT_FALSE(reaches(*outside, "192.168.78.10"));
}

TEST_F(Forward, AnIsolatedNetworkIsIsolated) {
    up(xml("alone", "<bridge name='alone0'/><ip address='192.168.79.1' prefix='24'/>"));
    up(xml("nat", "<forward mode='nat'/><bridge name='nat0'/><ip address='192.168.78.1' prefix='24'/>"));
    settle(*guest, "guest0", "alone0", "192.168.79.10/24", "192.168.79.1");
    Place mate, stranger;
    settle(mate, "mate0", "alone0", "192.168.79.11/24", "192.168.79.1");
    settle(stranger, "stranger0", "nat0", "192.168.78.10/24", "192.168.78.1");
    outside->in("ip route add 192.168.79.0/24 via 203.0.113.1");
    EXPECT_TRUE(reaches(*guest, "192.168.79.11"));
    EXPECT_FALSE(reaches(*guest, "203.0.113.2"));
    EXPECT_FALSE(reaches(*outside, "192.168.79.10"));
    EXPECT_FALSE(reaches(*guest, "192.168.78.10"));
    EXPECT_FALSE(reaches(stranger, "192.168.79.10"));
}

TEST_F(Forward, ARoutedNetworkIsReachedUnderItsOwnAddresses) {
    up(xml("routed",
           "<forward mode='route'/><bridge name='routed0'/><ip address='192.168.80.1' prefix='24'/>"
           "<ip family='ipv6' address='2001:db8:80::1' prefix='64'/>"));
    settle(*guest, "guest0", "routed0", "192.168.80.10/24", "192.168.80.1");
    outside->in("ip route add 192.168.80.0/24 via 203.0.113.1; ip -6 route add 2001:db8:80::/64 via 2001:db8:1::1");
    EXPECT_TRUE(reaches(*outside, "192.168.80.10"));
    EXPECT_TRUE(reaches(*guest, "203.0.113.2"));
    guest->in("ip -6 addr add 2001:db8:80::10/64 dev eth0 nodad; ip -6 route add default via 2001:db8:80::1");
    EXPECT_TRUE(reaches(*guest, "2001:db8:1::2"));
    EXPECT_TRUE(reaches(*outside, "2001:db8:80::10"));
}

TEST_F(Forward, IPv6IsTranslatedWhenAskedFor) {
    up(xml("nat6",
           "<forward mode='nat'><nat ipv6='yes'/></forward><bridge name='nat60'/>"
           "<ip address='192.168.81.1' prefix='24'/><ip family='ipv6' address='fd00:81::1' prefix='64'/>"));
    settle(*guest, "guest0", "nat60", "192.168.81.10/24", "192.168.81.1");
    guest->in("ip -6 addr add fd00:81::10/64 dev eth0 nodad; ip -6 route replace default via fd00:81::1");
    EXPECT_TRUE(eventually([&] { return reaches(*guest, "2001:db8:1::2"); }));
}

TEST_F(Forward, RulesThatSomebodyTookAwayAreMadeAgain) {
    const auto path = up(xml("nat",
                             "<forward mode='nat'/><bridge name='nat0'/><ip address='192.168.78.1' prefix='24'>"
                             "<dhcp><range start='192.168.78.100' end='192.168.78.150'/></dhcp></ip>"));
    settle(*guest, "guest0", "nat0", "192.168.78.10/24", "192.168.78.1");
    ASSERT_TRUE(reaches(*guest, "203.0.113.2"));
    ASSERT_TRUE(say("nft flush ruleset").ok());
    ASSERT_FALSE(reaches(*guest, "203.0.113.2"));
    const auto answer = update(path, "add-last", "ip-dhcp-host", "<host mac='52:54:00:00:00:33' ip='192.168.78.33'/>");
    ASSERT_TRUE(answer.ok()) << answer.message;
    EXPECT_TRUE(reaches(*guest, "203.0.113.2"));
}

}  // namespace
