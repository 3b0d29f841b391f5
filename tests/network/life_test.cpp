// SPDX-License-Identifier: LGPL-2.1-or-later
// Networks from start to stop: what they leave behind, what they do not touch, and a daemon that dies meanwhile.
#include "tests/network/network_bed.hpp"

using namespace virtbus::tests;

namespace {

constexpr const char* rich =
    "<forward mode='nat'><nat ipv6='yes'/></forward><bridge name='rich0'/><mtu size='1400'/>"
    "<bandwidth><inbound average='10000'/></bandwidth>"
    "<ip address='192.168.90.1' prefix='24'><dhcp><range start='192.168.90.100' end='192.168.90.150'/></dhcp></ip>"
    "<ip family='ipv6' address='fd00:90::1' prefix='64'/><route address='10.90.0.0' prefix='16' "
    "gateway='192.168.90.2'/>";

using Life = NetworkBed;

TEST_F(Life, AStoppedNetworkLeavesNothing) {
    say("nft add table ip somebody; nft add chain ip somebody keep '{ type filter hook forward priority 0; }'");
    const auto path = define(xml("rich", rich));
    const auto before = host_state();
    ASSERT_TRUE(verb(path, "Start").ok());
    EXPECT_NE(host_state(), before);
    EXPECT_NE(say("ip -4 addr show dev rich0").text.find("192.168.90.1/24"), std::string::npos);
    EXPECT_NE(say("ip route").text.find("10.90.0.0/16 via 192.168.90.2"), std::string::npos);
    ASSERT_TRUE(verb(path, "Stop").ok());
    EXPECT_EQ(host_state(), before);
    EXPECT_EQ(dnsmasq_pid("rich0"), "");
    say("nft delete table ip somebody");
}

TEST_F(Life, ADaemonThatIsKilledFindsItsNetworkAgain) {
    const auto before = host_state();
    const auto path = up(xml("rich", rich));
    Place guest;
    guest.plug("guest0", "rich0", "52:54:00:00:00:44");
    const auto said = ask_for_address(guest);
    ASSERT_TRUE(said.ok()) << said.text;
    ASSERT_TRUE(eventually([&] { return leases(path).find("52:54:00:00:00:44") != std::string::npos; }));
    const auto pid = dnsmasq_pid("rich0"), links = say("ip link; nft list ruleset; tc class show dev rich0").text;
    restart(SIGKILL);
    EXPECT_TRUE(active(path));
    EXPECT_EQ(bridge(path), "rich0");
    EXPECT_EQ(dnsmasq_pid("rich0"), pid);
    EXPECT_EQ(say("ip link; nft list ruleset; tc class show dev rich0").text, links);
    EXPECT_NE(leases(path).find("52:54:00:00:00:44"), std::string::npos);
    ASSERT_TRUE(verb(path, "Stop").ok());
    EXPECT_EQ(say("nft list ruleset").text, "");
    EXPECT_FALSE(say("ip link show rich0").ok());
    (void)before;
}

TEST_F(Life, WhatIsInTheWayIsFoundBeforeAnythingIsDone) {
    say("ip link add taken0 type veth peer name taken1; ip link set taken0 up; ip addr add 192.168.90.5/24 dev taken0");
    const auto path = define(xml("rich", rich)), named = define(xml("named", "<bridge name='taken0'/>"));
    const auto before = host_state();
    auto answer = verb(path, "Start");
    EXPECT_EQ(answer.error, error_prefix + "UnsupportedConfiguration");
    EXPECT_NE(answer.message.find("taken0"), std::string::npos) << answer.message;
    answer = verb(named, "Start");
    EXPECT_EQ(answer.error, error_prefix + "AlreadyExists") << answer.message;
    EXPECT_EQ(host_state(), before);
    say("ip link del taken0");
}

TEST_F(Life, TwoNetworksDoNotShareARange) {
    up(xml("first", "<ip address='192.168.91.1' prefix='24'/>"));
    const auto second = define(xml("second", "<ip address='192.168.91.129' prefix='25'/>"));
    const auto answer = verb(second, "Start");
    EXPECT_EQ(answer.error, error_prefix + "UnsupportedConfiguration");
    EXPECT_NE(answer.message.find("first"), std::string::npos) << answer.message;
}

TEST_F(Life, AForeignServerOnTheAddressIsNamed) {
    const auto conf = bed.folder / "foreign.conf";
    std::ofstream{conf} << "port=53\nno-resolv\nno-hosts\npid-file=\n";
    Process foreign{{"dnsmasq", "--keep-in-foreground", "--conf-file=" + conf}, {}, bed.log(), bed.log()};
    ASSERT_TRUE(eventually([&] { return say("ss -Hlun sport = :53").text.find(":53") != std::string::npos; }));
    const auto path = define(xml("rich", rich));
    const auto before = host_state();
    const auto answer = verb(path, "Start");
    EXPECT_EQ(answer.error, error_prefix + "UnsupportedConfiguration");
    EXPECT_NE(answer.message.find("dnsmasq"), std::string::npos) << answer.message;
    EXPECT_EQ(host_state(), before);
}

TEST_F(Life, ManyNetworksStartSideBySide) {
    constexpr int many = 40;
    const auto before = host_state();
    std::vector<std::string> paths;
    for (int i = 0; i < many; ++i) {
        const auto number = std::to_string(i);
        paths.push_back(define(xml("many" + number, "<forward mode='nat'/><ip address='10.44." + number +
                                                        ".1' prefix='24'><dhcp><range start='10.44." + number +
                                                        ".100' end='10.44." + number + ".150'/></dhcp></ip>")));
    }
    std::vector<Client::Pending> starting;
    for (const auto& path : paths) starting.push_back(client->start(path, network, "Start", "a{sv}", 0));
    for (auto& one : starting) {
        const auto answer = one.wait();
        EXPECT_TRUE(answer.ok()) << answer.message;
    }
    std::vector<Client::Pending> stopping;
    for (const auto& path : paths) stopping.push_back(client->start(path, network, "Stop", "a{sv}", 0));
    for (auto& one : stopping) EXPECT_TRUE(one.wait().ok());
    EXPECT_EQ(say("nft list ruleset; ip -br link | grep virbr").text, "");
    (void)before;
}

/// A network that another program has started before the upgrade.
TEST_F(Life, LiveStateOfTheOldPlaceIsTakenOver) {
    client.reset();
    ASSERT_EQ(bed.stop(), 0);
    ASSERT_TRUE(say("ip link add old0 address 52:54:00:00:00:aa type bridge && ip addr add 192.168.93.1/24 dev old0 && "
                    "ip link set old0 up")
                    .ok());
    const auto old = bed.folder / "STATE/network";
    std::filesystem::create_directories(old);
    const std::string there =
        "<network><name>old</name><uuid>11111111-2222-4333-8444-555555555555</uuid>"
        "<bridge name='old0'/><mac address='52:54:00:00:00:aa'/>"
        "<ip address='192.168.93.1' netmask='255.255.255.0'><dhcp>"
        "<range start='192.168.93.10' end='192.168.93.20'/></dhcp></ip></network>";
    std::ofstream{old + "/old.xml"} << "<networkstatus><class_id bitmap='0-2'/><floor sum='0'/>" << there
                                    << "</networkstatus>";
    std::ofstream{old + "/gone.xml"} << "<network><name>gone</name><bridge name='gone0'/></network>";
    std::ofstream{old + "/broken.xml"} << "<networkstatus><network>";
    start();
    const auto path = text_of(client->call(root, manager, "GetNetwork", "s", "old"));
    EXPECT_TRUE(active(path)) << path;
    EXPECT_EQ(property(*client, path, network, "Persistent"), "0");
    EXPECT_FALSE(dnsmasq_pid("old0").empty());
    EXPECT_FALSE(std::filesystem::exists(old + "/old.xml"));
    EXPECT_FALSE(std::filesystem::exists(old + "/gone.xml"));
    EXPECT_TRUE(std::filesystem::exists(old + "/broken.xml.rejected"));
    EXPECT_EQ(client->call(root, manager, "GetNetwork", "s", "gone").error, error_prefix + "NoSuchNetwork");
    ASSERT_TRUE(verb(path, "Stop").ok());
    EXPECT_FALSE(say("ip link show old0").ok());
}

}  // namespace
