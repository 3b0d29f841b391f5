// SPDX-License-Identifier: LGPL-2.1-or-later
// Changes of parts of a network: where they go, what they collide with, what they leave alone.
#include "service/networking/network_update.hpp"

#include <gtest/gtest.h>

#include "service/xml/network_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus {
namespace {

constexpr const char* with_everything = R"(<network>
  <name>n</name>
  <uuid>9a05da11-e96b-47f3-8253-a3a482e445f5</uuid>
  <forward mode='nat'/>
  <bridge name='br7'/>
  <mac address='52:54:00:00:00:01'/>
  <domain name='example.com'/>
  <dns>
    <txt name='a' value='1'/>
    <srv service='ldap' protocol='tcp' target='one.example.com' port='389'/>
    <srv service='ldap' protocol='tcp' target='two.example.com' port='389'/>
    <host ip='10.0.0.5'><hostname>five</hostname><hostname>cinq</hostname></host>
    <host ip='10.0.0.6'><hostname>six</hostname></host>
  </dns>
  <ip address='10.1.0.1' prefix='24'/>
  <ip address='10.0.0.1' prefix='24'>
    <dhcp>
      <range start='10.0.0.100' end='10.0.0.120'/>
      <host mac='52:54:00:00:00:11' name='eleven' ip='10.0.0.11'/>
      <host mac='52:54:00:00:00:12' ip='10.0.0.12'/>
    </dhcp>
  </ip>
  <ip family='ipv6' address='fd00::1' prefix='64'/>
  <portgroup name='sales' default='yes'/>
</network>)";
constexpr const char* pool = R"(<network>
  <name>pool</name>
  <uuid>9a05da11-e96b-47f3-8253-a3a482e445f6</uuid>
  <forward mode='private'>
    <interface dev='eth1' connections='2'/>
    <interface dev='eth2'/>
  </forward>
</network>)";

NetworkConfig network(const char* text = with_everything) {
    auto config = xml::parse_network(text).config;
    xml::complete_network(config);
    return config;
}

NetworkConfig change(const std::string& command, const std::string& section, const std::string& part, int index = -1,
                     const NetworkConfig& from = network()) {
    return updated(from, {command, section, index, part});
}

struct Refused {
    Code code = Code::internal;
    std::string message;
};
Refused refused(const std::string& command, const std::string& section, const std::string& part, int index = -1,
                const NetworkConfig& from = network()) try {
    change(command, section, part, index, from);
    return {};
} catch (const Error& error) {
    return {error.code(), error.what()};
}

void expect_refused(const Refused& refused, Code code, const std::string& part) {
    EXPECT_EQ(refused.code, code) << refused.message;
    EXPECT_NE(refused.message.find(part), std::string::npos) << refused.message;
}

// ---- what is asked

TEST(NetworkUpdate, NamesWhatThereIs) {
    expect_refused(refused("add", "dns-txt", "<txt/>"), Code::invalid_args, "add-first, add-last, modify, delete");
    expect_refused(refused("modify", "dns", "<dns/>"), Code::invalid_args, "ip-dhcp-host");
    expect_refused(refused("add-last", "dns-txt", "<host ip='1.2.3.4'/>"), Code::invalid_xml, "<txt>");
    expect_refused(refused("add-last", "dns-txt", "<txt name='x'"), Code::invalid_xml, "");
    expect_refused(refused("add-last", "ip-dhcp-host", "<host mac='52:54:00:00:00:aa' ip='10.0.0.9'/>", 3),
                   Code::invalid_args, "the network has 3");
    expect_refused(refused("add-last", "ip-dhcp-host", "<host mac='52:54:00:00:00:aa' ip='10.0.0.9'/>", -2),
                   Code::invalid_args, "-2");
}

TEST(NetworkUpdate, ChangesNothingElse) {
    auto expected = network();
    const auto changed = change("add-last", "dns-txt", "<txt name='b' value='2'/>");
    expected.dns->texts.push_back({"b", "2", {}});
    EXPECT_TRUE(changed == expected);
}

TEST(NetworkUpdate, ChecksTheWhole) {
    expect_refused(refused("add-last", "ip-dhcp-host", "<host mac='52:54:00:00:00:aa' ip='10.0.9.9'/>"),
                   Code::invalid_xml, "not in the network 10.0.0.0/24");
    expect_refused(refused("add-last", "portgroup", "<portgroup name='other' default='yes'/>"), Code::invalid_xml,
                   "two portgroups");
    expect_refused(
        refused("delete", "ip", "<ip address='10.0.0.1'/>", -1, change("delete", "ip", "<ip address='10.1.0.1'/>")),
        Code::invalid_xml, "needs an <ip>");
}

// ---- DHCP

TEST(NetworkUpdateHost, GoesToTheIpWithDhcp) {
    const auto last = change("add-last", "ip-dhcp-host", "<host mac='52:54:00:00:00:AA' ip='10.0.0.20'/>");
    EXPECT_EQ(last.ips.at(1).dhcp->hosts.at(2).mac, "52:54:00:00:00:aa");
    const auto first = change("add-first", "ip-dhcp-host", "<host mac='52:54:00:00:00:aa' ip='10.0.0.20'/>");
    EXPECT_EQ(first.ips.at(1).dhcp->hosts.at(0).ip, "10.0.0.20");
    EXPECT_FALSE(first.ips.at(0).dhcp);
}

TEST(NetworkUpdateHost, GoesToTheIpOfItsFamilyOrItsIndex) {
    const auto six = change("add-last", "ip-dhcp-host", "<host name='six' ip='fd00::6'/>");
    EXPECT_EQ(six.ips.at(2).dhcp->hosts.at(0).name, "six");
    expect_refused(refused("add-last", "ip-dhcp-host", "<host mac='52:54:00:00:00:aa' ip='10.1.0.20'/>", 0),
                   Code::invalid_xml, "only one of each family");
    const auto none = change("delete", "ip", "<ip address='10.0.0.1'/>");
    EXPECT_EQ(change("add-last", "ip-dhcp-host", "<host mac='52:54:00:00:00:aa' ip='10.1.0.20'/>", 0, none)
                  .ips.at(0)
                  .dhcp->hosts.size(),
              1U);
}

TEST(NetworkUpdateHost, CollidesByEachOfItsKeys) {
    for (const auto* host : {"<host mac='52:54:00:00:00:11' ip='10.0.0.20'/>", "<host name='eleven' ip='10.0.0.20'/>",
                             "<host mac='52:54:00:00:00:aa' ip='10.0.0.11'/>"})
        expect_refused(refused("add-last", "ip-dhcp-host", host), Code::already_exists, "<host");
}

TEST(NetworkUpdateHost, IsModifiedByAnyAndDeletedByAllKeys) {
    const auto modified = change("modify", "ip-dhcp-host", "<host mac='52:54:00:00:00:11' name='elf' ip='10.0.0.31'/>");
    EXPECT_EQ(modified.ips.at(1).dhcp->hosts.at(0).ip, "10.0.0.31");
    EXPECT_EQ(modified.ips.at(1).dhcp->hosts.at(0).name, "elf");
    EXPECT_EQ(change("delete", "ip-dhcp-host", "<host ip='10.0.0.12'/>").ips.at(1).dhcp->hosts.size(), 1U);
    EXPECT_EQ(change("delete", "ip-dhcp-host", "<host name='eleven'/>").ips.at(1).dhcp->hosts.at(0).ip, "10.0.0.12");
    expect_refused(refused("delete", "ip-dhcp-host", "<host name='eleven' ip='10.0.0.12'/>"), Code::invalid_state,
                   "no <host name='eleven' ip='10.0.0.12'>");
    expect_refused(refused("modify", "ip-dhcp-host", "<host name='twelve' ip='10.0.0.99'/>"), Code::invalid_state,
                   "twelve");
    expect_refused(refused("delete", "ip-dhcp-host", "<host/>"), Code::invalid_xml, "mac, id, name or ip");
}

TEST(NetworkUpdateRange, IsAddedAndDeletedByBothEnds) {
    EXPECT_EQ(change("add-first", "ip-dhcp-range", "<range start='10.0.0.50' end='10.0.0.60'/>")
                  .ips.at(1)
                  .dhcp->ranges.at(0)
                  .start,
              "10.0.0.50");
    const auto without = change("delete", "ip-dhcp-range", "<range start='10.0.0.100' end='10.0.0.120'/>");
    EXPECT_TRUE(without.ips.at(1).dhcp->ranges.empty());
    expect_refused(refused("delete", "ip-dhcp-range", "<range start='10.0.0.100' end='10.0.0.121'/>"),
                   Code::invalid_state, "10.0.0.121");
    expect_refused(refused("add-last", "ip-dhcp-range", "<range start='10.0.0.100' end='10.0.0.120'/>"),
                   Code::already_exists, "10.0.0.100");
    expect_refused(refused("add-last", "ip-dhcp-range", "<range start='10.0.0.110' end='10.0.0.130'/>"),
                   Code::invalid_xml, "overlaps");
    const auto timed = change("modify", "ip-dhcp-range",
                              "<range start='10.0.0.100' end='10.0.0.120'><lease expiry='2' unit='hours'/></range>");
    EXPECT_EQ(timed.ips.at(1).dhcp->ranges.at(0).lease->expiry, 2U);
}

TEST(NetworkUpdateRange, TheLastOneLeavesNoDhcpBehind) {
    const auto added = change("add-last", "ip-dhcp-range", "<range start='fd00::10' end='fd00::20'/>");
    EXPECT_EQ(added.ips.at(2).dhcp->ranges.size(), 1U);
    const auto gone = change("delete", "ip-dhcp-range", "<range start='fd00::0:10' end='fd00::20'/>", -1, added);
    EXPECT_TRUE(gone == network());
}

TEST(NetworkUpdateIp, IsFoundByItsAddress) {
    EXPECT_EQ(change("add-first", "ip", "<ip address='10.7.0.1' prefix='24'/>").ips.at(0).address, "10.7.0.1");
    EXPECT_EQ(change("modify", "ip", "<ip address='10.1.0.1' prefix='16'/>").ips.at(0).prefix, 16U);
    EXPECT_EQ(change("delete", "ip", "<ip address='fd00:0::1'/>").ips.size(), 2U);
    expect_refused(refused("add-last", "ip", "<ip address='10.1.0.1' prefix='30'/>"), Code::already_exists, "10.1.0.1");
    expect_refused(refused("modify", "ip", "<ip address='10.3.0.1'/>"), Code::invalid_state, "10.3.0.1");
}

// ---- names

TEST(NetworkUpdateDns, HostsAreFoundByAddressOrName) {
    EXPECT_EQ(
        change("add-first", "dns-host", "<host ip='10.0.0.7'><hostname>six</hostname></host>").dns->hosts.at(0).ip,
        "10.0.0.7");
    expect_refused(refused("add-last", "dns-host", "<host ip='10.0.0.6'><hostname>x</hostname></host>"),
                   Code::already_exists, "10.0.0.6");
    EXPECT_EQ(change("delete", "dns-host", "<host><hostname>cinq</hostname></host>").dns->hosts.at(0).ip, "10.0.0.6");
    EXPECT_EQ(change("delete", "dns-host", "<host ip='10.0.0.6'/>").dns->hosts.size(), 1U);
    expect_refused(refused("delete", "dns-host", "<host><hostname>cinq</hostname><hostname>six</hostname></host>"),
                   Code::invalid_state, "matches 2");
    expect_refused(refused("delete", "dns-host", "<host/>"), Code::invalid_xml, "needs an ip");
    expect_refused(refused("add-last", "dns-host", "<host ip='10.0.0.9'/>"), Code::invalid_xml, "no <hostname>");
    EXPECT_EQ(change("modify", "dns-host", "<host ip='10.0.0.6'><hostname>sechs</hostname></host>")
                  .dns->hosts.at(1)
                  .hostnames.at(0),
              "sechs");
}

TEST(NetworkUpdateDns, TextsAreFoundByName) {
    expect_refused(refused("add-last", "dns-txt", "<txt name='a' value='2'/>"), Code::already_exists, "'a'");
    EXPECT_EQ(change("modify", "dns-txt", "<txt name='a' value='2'/>").dns->texts.at(0).value, "2");
    EXPECT_TRUE(change("delete", "dns-txt", "<txt name='a'/>").dns->texts.empty());
    expect_refused(refused("delete", "dns-txt", "<txt name='b'/>"), Code::invalid_state, "'b'");
}

TEST(NetworkUpdateDns, ServicesAreFoundByWhatIsGiven) {
    EXPECT_EQ(change("delete", "dns-srv", "<srv target='two.example.com'/>").dns->services.size(), 1U);
    expect_refused(refused("delete", "dns-srv", "<srv service='ldap'/>"), Code::invalid_state, "matches 2");
    expect_refused(refused("delete", "dns-srv", "<srv service='sip'/>"), Code::invalid_state, "sip");
    expect_refused(refused("add-last", "dns-srv", "<srv service='ldap' protocol='tcp' target='one.example.com'/>"),
                   Code::already_exists, "ldap");
    EXPECT_EQ(change("modify", "dns-srv", "<srv service='ldap' protocol='tcp' target='two.example.com' port='636'/>")
                  .dns->services.at(1)
                  .port,
              636U);
    expect_refused(refused("add-last", "dns-srv", "<srv service='x'/>"), Code::invalid_xml, "protocol");
}

TEST(NetworkUpdateDns, TheFirstRecordMakesItAndTheLastTakesItAway) {
    auto plain = network();
    plain.dns.reset();
    const auto with = change("add-last", "dns-txt", "<txt name='a' value='1'/>", -1, plain);
    EXPECT_EQ(with.dns->texts.size(), 1U);
    EXPECT_TRUE(change("delete", "dns-txt", "<txt name='a'/>", -1, with) == plain);
    expect_refused(refused("delete", "dns-txt", "<txt name='a'/>", -1, plain), Code::invalid_state, "'a'");
}

TEST(NetworkUpdateDomain, IsOne) {
    EXPECT_EQ(change("modify", "domain", "<domain name='example.org' localOnly='yes'/>").domain->name, "example.org");
    expect_refused(refused("add-last", "domain", "<domain name='x'/>"), Code::already_exists, "example.com");
    expect_refused(refused("delete", "domain", "<domain name='x'/>"), Code::invalid_state, "'x'");
    const auto without = change("delete", "domain", "<domain name='example.com'/>");
    EXPECT_FALSE(without.domain);
    EXPECT_EQ(change("add-first", "domain", "<domain name='x'/>", -1, without).domain->name, "x");
    expect_refused(refused("modify", "domain", "<domain name='x'/>", -1, without), Code::invalid_state, "'x'");
}

// ---- the bridge, the way out, ports

TEST(NetworkUpdateBridge, IsModifiedOnly) {
    const auto changed = change("modify", "bridge", "<bridge stp='off' delay='3'/>");
    EXPECT_EQ(changed.bridge->name, "br7");
    EXPECT_EQ(changed.bridge->stp, false);
    expect_refused(refused("delete", "bridge", "<bridge name='br7'/>"), Code::unsupported, "can be modified");
    expect_refused(refused("modify", "bridge", "<bridge name='a/b'/>"), Code::invalid_xml, "a/b");
}

TEST(NetworkUpdateForward, IsReplacedAsAWhole) {
    EXPECT_EQ(forward_mode(change("modify", "forward", "<forward mode='route' dev='eth0'/>")), ForwardMode::route);
    EXPECT_FALSE(change("delete", "forward", "<forward/>").forward);
    expect_refused(refused("add-last", "forward", "<forward/>"), Code::already_exists, "mode='nat'");
    expect_refused(refused("modify", "forward", "<forward mode='hostdev'><pf dev='eth0'/></forward>"),
                   Code::invalid_xml, "hostdev");
    const auto changed =
        change("modify", "forward", "<forward mode='vepa'><interface dev='eth1'/></forward>", -1, network(pool));
    EXPECT_EQ(changed.forward->interfaces.at(0).connections, 2U);
}

TEST(NetworkUpdateForward, DevicesComeAndGo) {
    const auto first = change("add-first", "forward-interface", "<interface dev='eth0'/>", -1, network(pool));
    EXPECT_EQ(first.forward->dev, "eth0");
    EXPECT_EQ(first.forward->interfaces.size(), 3U);
    EXPECT_EQ(first.forward->interfaces.at(1).connections, 2U);
    const auto less = change("delete", "forward-interface", "<interface dev='eth1'/>", -1, network(pool));
    EXPECT_EQ(less.forward->dev, "eth2");
    expect_refused(refused("delete", "forward-interface", "<interface dev='eth2'/>", -1, less), Code::invalid_xml,
                   "needs an <interface");
    expect_refused(refused("add-last", "forward-interface", "<interface dev='eth2'/>", -1, network(pool)),
                   Code::already_exists, "eth2");
    expect_refused(refused("delete", "forward-interface", "<interface dev='eth9'/>", -1, network(pool)),
                   Code::invalid_state, "eth9");
    expect_refused(refused("modify", "forward-interface", "<interface dev='eth2'/>", -1, network(pool)),
                   Code::unsupported, "delete it and add another");
    EXPECT_EQ(change("add-last", "forward-interface", "<interface dev='eth0'/>").forward->dev, "eth0");
}

TEST(NetworkUpdateForward, CardsAreReplaced) {
    const auto card = network("<network><name>c</name><forward mode='hostdev'><pf dev='eth0'/></forward></network>");
    EXPECT_EQ(change("modify", "forward-pf", "<pf dev='eth1'/>", -1, card).forward->cards.at(0).dev, "eth1");
    expect_refused(refused("add-last", "forward-pf", "<pf dev='eth1'/>", -1, card), Code::invalid_xml,
                   "one is allowed");
    expect_refused(refused("delete", "forward-pf", "<pf dev='eth0'/>", -1, card), Code::invalid_xml, "needs a <pf");
    expect_refused(refused("add-last", "forward-pf", "<pf dev='eth0'/>", -1, network(pool)), Code::invalid_state,
                   "delete them first");
}

TEST(NetworkUpdatePortGroup, IsFoundByName) {
    EXPECT_EQ(change("add-first", "portgroup", "<portgroup name='hr'/>").port_groups.at(0).name, "hr");
    EXPECT_EQ(change("modify", "portgroup", "<portgroup name='sales'/>").port_groups.at(0).is_default, std::nullopt);
    EXPECT_TRUE(change("delete", "portgroup", "<portgroup name='sales'/>").port_groups.empty());
    expect_refused(refused("add-last", "portgroup", "<portgroup name='sales'/>"), Code::already_exists, "sales");
    expect_refused(refused("delete", "portgroup", "<portgroup name='hr'/>"), Code::invalid_state, "hr");
}

}  // namespace
}  // namespace virtbus
