// SPDX-License-Identifier: LGPL-2.1-or-later
// What a definition of a network is completed with, and every rule: what breaks it and what is just allowed.
#include <fmt/format.h>

#include "network_support.hpp"

namespace virtbus::xml {
namespace {

const std::string one_ip = "<ip address='192.168.5.1' prefix='24'/>";

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

// ---- rules: what breaks each, with a part of what is said about it

struct Rule {
    const char* elements;
    const char* said;
};
void expect_broken(std::initializer_list<Rule> rules) {
    for (const auto& rule : rules) {
        SCOPED_TRACE(rule.elements);
        EXPECT_REFUSED(network_refusal(rule.elements), Code::invalid_xml, rule.said);
    }
}
void expect_whole(std::initializer_list<std::string> networks) {
    for (const auto& elements : networks) EXPECT_EQ(network_refusal(elements).message, "") << elements;
}

#define WITH_IP "<ip address='192.168.5.1' prefix='24'/>"
#define DHCP(elements) "<ip address='192.168.5.1' prefix='24'><dhcp>" elements "</dhcp></ip>"
#define DHCP6(elements) "<ip family='ipv6' address='fd00::1' prefix='64'><dhcp>" elements "</dhcp></ip>"
#define NAT(elements) "<forward mode='nat'><nat>" elements "</nat></forward>" WITH_IP
#define DNS(elements) "<dns>" elements "</dns>"
#define BRIDGED "<forward mode='bridge'/><bridge name='br0'/>"

Refusal name_refusal(const std::string& name) {
    return refusal([&] {
        auto config = parse_network("<network><name>" + name + "</name></network>").config;
        complete_network(config);
    });
}

TEST(NetworkRules, Names) {
    EXPECT_REFUSED(name_refusal(""), Code::invalid_xml, "the network's name is missing");
    EXPECT_REFUSED(name_refusal(".."), Code::invalid_xml, "..");
    EXPECT_REFUSED(name_refusal("a/b"), Code::invalid_xml, "'/'");
    EXPECT_REFUSED(name_refusal("a\nb"), Code::invalid_xml, "line breaks");
    EXPECT_REFUSED(name_refusal(std::string(256, 'n')), Code::invalid_xml, "256 bytes");
    EXPECT_EQ(name_refusal(std::string(255, 'n')).message, "");
    expect_broken({{"<uuid>1234</uuid>", "<uuid>"},
                   {"<title>a\nb</title>", "one line"},
                   {"<mac address='ff:ff:ff:ff:ff:ff'/>", "<mac>"},
                   {"<mac address='52:54:00'/>", "<mac>"}});
}

TEST(NetworkRules, Bridges) {
    expect_broken({{"<bridge name='sixteen-letters-'/>", "15 bytes"},
                   {"<bridge name='a/b'/>", "a/b"},
                   {"<bridge name='a b'/>", "blanks"},
                   {"<bridge name='a:b'/>", "a:b"},
                   {"<bridge name='..'/>", ".."},
                   {"<bridge name='all'/>", "none of"},
                   {"<bridge name='default'/>", "none of"},
                   {"<bridge name='x%d'/>", "x%d"},
                   {"<bridge name='a&#10;b'/>", "a?b"},
                   {"<bridge delay='3601'/>", "delay='3601'"},
                   {"<bridge delay='-1'/>", "delay='-1'"},
                   {"<bridge stp='yes'/>", "on, off"},
                   {"<bridge macTableManager='me'/>", "kernel, libvirt"},
                   {"<bridge zone='a b'/>", "zone"},
                   {"<mtu size='67'/>", "68"},
                   {"<mtu size='65536'/>", "65535"},
                   {"<forward mode='bridge'/><bridge name='br0' stp='on'/>", "stp, delay and zone"},
                   {"<forward mode='bridge'/><bridge name='br0' delay='0'/>", "stp, delay and zone"},
                   {"<forward mode='bridge'/><bridge name='br0' zone='z'/>", "stp, delay and zone"},
                   {"<forward mode='vepa' dev='eth0'/><bridge name='br0'/>", "<bridge> is not allowed"}});
    expect_whole({"<bridge name='fifteen-letters'/>", "<bridge delay='3600' zone='my_zone-1'/>", "<mtu size='68'/>",
                  "<mtu size='65535'/>", "<bridge name='br0.100'/>"});
}

TEST(NetworkRules, WaysOut) {
    expect_broken({
        {"<forward mode='natted'/>" WITH_IP, "nat, route, open"},
        {"<forward mode='none' dev='eth0'/>", "leave the element out"},
        {"<forward mode='nat'/>", "needs an <ip>"},
        {"<forward mode='route'/>", "needs an <ip>"},
        {"<forward mode='nat'/><ip family='ipv6' address='fd00::1' prefix='64'/>", "<nat ipv6='yes'>"},
        {"<forward dev='eth0'><interface dev='eth1'/></forward>" WITH_IP, "differ"},
        {"<forward mode='nat'><interface dev='a'/><interface dev='b'/></forward>" WITH_IP, "2 devices; one is allowed"},
        {"<forward mode='nat'><pf dev='eth0'/></forward>" WITH_IP, "no <pf>"},
        {"<forward mode='open' dev='eth0'/>", "has no dev"},
        {"<forward mode='open'><nat/></forward>", "<nat> is not allowed"},
        {"<forward mode='route'><nat/></forward>" WITH_IP, "<nat> is not allowed"},
        {"<forward mode='nat' managed='yes'/>" WITH_IP, "managed"},
        {"<forward mode='private'/>", "needs an <interface"},
        {"<forward mode='vepa'/>", "needs an <interface"},
        {"<forward mode='passthrough'/>", "needs an <interface"},
        {"<forward mode='bridge'/>", "neither"},
        {"<forward mode='bridge' dev='eth0'/><bridge name='br0'/>", "both"},
        {"<forward mode='hostdev'/>", "needs a <pf"},
        {"<forward mode='hostdev' dev='eth0'/>", "not an <interface>"},
        {"<forward mode='hostdev'><pf dev='a'/><pf dev='b'/></forward>", "one is allowed"},
        {"<forward mode='hostdev'><address slot='1'/></forward>", "type='pci'"},
        {"<forward mode='hostdev'><address type='pci' bus='4'/><address type='pci' bus='4'/></forward>", "twice"},
        {"<forward mode='hostdev'><driver name='xen'/><pf dev='a'/></forward>", "kvm, vfio"},
        {"<forward mode='private'><address type='pci' bus='4'/></forward>", "no <address>"},
        {"<forward mode='private'><interface dev='a'/><interface dev='a'/></forward>", "twice"},
        {"<forward mode='private'><interface dev='a/b'/></forward>", "a/b"},
        {"<forward mode='private'><interface/></forward>", "'dev' is missing"},
    });
    expect_whole({"<forward mode='open'/>", "<forward mode='open'/>" WITH_IP,
                  "<forward mode='nat'><nat ipv6='yes'/></forward><ip family='ipv6' address='fd00::1' prefix='64'/>"});
}

TEST(NetworkRules, Nat) {
    expect_broken({{NAT("<address start='1.2.3.9' end='1.2.3.4'/>"), "ends before its start"},
                   {NAT("<address start='1.2.3.9'/>"), "'end' is missing"},
                   {NAT("<address start='x' end='1.2.3.4'/>"), "not an IP address"},
                   {NAT("<address start='fd00::1' end='fd00::2'/>"), "IPv4 only"},
                   {NAT("<address start='0.0.0.0' end='1.2.3.4'/>"), "0.0.0.0"},
                   {NAT("<address start='224.0.0.1' end='224.0.0.2'/>"), "224.0.0.1"},
                   {NAT("<port start='0' end='10'/>"), "start='0'"},
                   {NAT("<port start='1' end='65536'/>"), "65535"},
                   {NAT("<port start='11' end='10'/>"), "ends before its start"}});
    expect_whole({NAT("<port start='1' end='65535'/>"), NAT("<address start='1.2.3.4' end='1.2.3.4'/>")});
}

TEST(NetworkRules, PoolsHaveNoneOfTheHostsSide) {
    for (const auto* element :
         {WITH_IP, "<route address='10.0.0.0' prefix='8' gateway='10.0.0.1'/>", "<domain name='d'/>", "<dns/>",
          "<mtu size='1400'/>", "<mac address='52:54:00:00:00:01'/>",
          "<bandwidth><inbound average='1'/></bandwidth>"}) {
        EXPECT_REFUSED(network_refusal(std::string{BRIDGED} + element), Code::invalid_xml,
                       "is not allowed with <forward mode='bridge'>");
        EXPECT_REFUSED(network_refusal(std::string{"<forward mode='vepa' dev='eth0'/>"} + element), Code::invalid_xml,
                       "is not allowed with <forward mode='vepa'>");
    }
    expect_broken({{"<forward mode='vepa' dev='eth0'/><port isolated='yes'/>", "needs a bridge"}});
    expect_whole({BRIDGED "<port isolated='yes'/>"});
}

// ---- addresses

TEST(NetworkRules, Addresses) {
    expect_broken({{"<ip prefix='24'/>", "'address' is missing"},
                   {"<ip address='192.168.5.256'/>", "192.168.5.256"},
                   {"<ip address='fd00::1' prefix='64'/>", "needs family='ipv6'"},
                   {"<ip family='ipv6' address='10.0.0.1'/>", "not of family='ipv6'"},
                   {"<ip family='ipx' address='10.0.0.1'/>", "ipv4, ipv6"},
                   {"<ip address='10.0.0.1' prefix='33'/>", "32 bits"},
                   {"<ip address='10.0.0.1' prefix='0'/>", "prefix 0"},
                   {"<ip family='ipv6' address='fd00::1' prefix='129'/>", "128"},
                   {"<ip address='10.0.0.1' netmask='255.0.255.0'/>", "not an IPv4 netmask"},
                   {"<ip address='10.0.0.1' netmask='0.0.0.0'/>", "prefix 0"},
                   {"<ip address='10.0.0.1' netmask='255.0.0.0' prefix='8'/>", "exclude each other"},
                   {"<ip family='ipv6' address='fd00::1' netmask='255.0.0.0'/>", "IPv6 network has a prefix"},
                   {"<ip address='0.0.0.0' prefix='8'/>", "not an address"},
                   {"<ip address='127.0.0.1' prefix='8'/>", "not an address"},
                   {"<ip address='224.0.0.1' prefix='8'/>", "not an address"},
                   {"<ip family='ipv6' address='::1'/>", "not an address"},
                   {"<ip family='ipv6' address='ff02::1'/>", "not an address"},
                   {WITH_IP "<ip address='192.168.5.1' prefix='25'/>", "two <ip>"},
                   {"<ip address='10.0.0.1' prefix='23' localPtr='yes'/>", "multiple of 8"},
                   {"<ip family='ipv6' address='fd00::1' prefix='63' localPtr='yes'/>", "multiple of 4"},
                   {"<ip family='ipv6' address='fd00::1'><tftp root='/a'/></ip>", "IPv4 only"},
                   {"<ip address='10.0.0.1'><tftp root='a'/></ip>", "absolute"},
                   {"<ip address='10.0.0.1'><tftp root='/a,virbr9'/></ip>", "commas"},
                   {"<ip address='10.0.0.1'><tftp root='/a&#10;dhcp-script=/x'/></ip>", "line breaks"}});
    expect_whole({"<ip address='10.0.0.1' prefix='23' localPtr='no'/>", "<ip address='10.0.0.1' prefix='32'/>"});
}

TEST(NetworkRules, Ranges) {
    expect_broken(
        {{DHCP("<range start='192.168.6.2' end='192.168.6.9'/>"), "'192.168.6.2' is not in the network 192.168.5.0/24"},
         {DHCP("<range start='192.168.5.2' end='192.168.6.9'/>"), "'192.168.6.9' is not in the network"},
         {DHCP("<range start='192.168.5.9' end='192.168.5.2'/>"), "before the start"},
         {DHCP("<range start='192.168.5.0' end='192.168.5.9'/>"), "network 192.168.5.0/24 itself"},
         {DHCP("<range start='192.168.5.9' end='192.168.5.255'/>"), "broadcast"},
         {DHCP("<range start='192.168.5.9'/>"), "'end' is missing"},
         {DHCP("<range start='fd00::1' end='fd00::2'/>"), "is not in the network"},
         {DHCP("<range start='192.168.5.5' end='192.168.5.9'/><range start='192.168.5.9' end='192.168.5.20'/>"),
          "overlaps"},
         {"<ip address='10.0.0.1' prefix='8'><dhcp><range start='10.0.0.2' end='10.16.0.2'/></dhcp></ip>",
          "at most 1048576"},
         {DHCP6("<range start='fd00::2' end='fd00::1:2'/>"), "at most 65536"},
         {DHCP6("<range start='fd00::' end='fd00::1:2'/>"), "itself"},
         {"<ip family='ipv6' address='fd00::1' prefix='56'><dhcp><range start='fd00::2' end='fd00::3'/></dhcp>"
          "</ip>",
          "at least 64"},
         {DHCP("<range start='192.168.5.2' end='192.168.5.3'><lease expiry='119' unit='seconds'/></range>"),
          "120 seconds"},
         {DHCP("<range start='192.168.5.2' end='192.168.5.3'><lease expiry='1'/></range>"), "2 minutes"},
         {DHCP("<range start='192.168.5.2' end='192.168.5.3'><lease expiry='4294967295'/></range>"), "too long"},
         {DHCP("<range start='192.168.5.2' end='192.168.5.3'><lease expiry='3' unit='days'/></range>"), "hours"},
         {DHCP("<range start='192.168.5.2' end='192.168.5.3'/>") "<ip address='10.0.0.1' prefix='24'><dhcp>"
                                                                 "<range start='10.0.0.2' end='10.0.0.3'/></dhcp></ip>",
          "two IPv4 <ip> have <dhcp>"}});
    expect_whole(
        {DHCP("<range start='192.168.5.1' end='192.168.5.254'/>"), DHCP6("<range start='fd00::2' end='fd00::1:1'/>"),
         "<ip address='10.0.0.1' prefix='8'><dhcp><range start='10.0.0.2' end='10.16.0.1'/></dhcp></ip>",
         DHCP("<range start='192.168.5.2' end='192.168.5.3'/>") DHCP6("<range start='fd00::2' end='fd00::3'/>")});
}

#define A_HOST "<host mac='52:54:00:00:00:02' name='two' ip='192.168.5.2'/>"

TEST(NetworkRules, Hosts) {
    expect_broken(
        {{DHCP("<host ip='192.168.5.2'/>"), "needs mac or name"},
         {DHCP("<host mac='52:54:00:00:00:02'/>"), "needs an ip"},
         {DHCP("<host mac='53:54:00:00:00:02' ip='192.168.5.2'/>"), "mac="},
         {DHCP("<host mac='52:54:00:00:00:02' ip='192.168.6.2'/>"), "is not in the network"},
         {DHCP("<host mac='52:54:00:00:00:02' ip='192.168.5.1'/>"), "the host itself"},
         {DHCP("<host mac='52:54:00:00:00:02' ip='192.168.5.255'/>"), "broadcast"},
         {DHCP(A_HOST "<host mac='52:54:00:00:00:02' ip='192.168.5.3'/>"), "two <host> have mac"},
         {DHCP(A_HOST "<host name='two' ip='192.168.5.3'/>"), "two <host> have name"},
         {DHCP(A_HOST "<host name='three' ip='192.168.5.2'/>"), "two <host> have ip"},
         {DHCP("<host name='12h' ip='192.168.5.2'/>"), "beginning with a letter"},
         {DHCP("<host name='ignore' ip='192.168.5.2'/>"), "something else"},
         {DHCP("<host name='infinite' ip='192.168.5.2'/>"), "something else"},
         {DHCP("<host name='a,b' ip='192.168.5.2'/>"), "a,b"},
         {DHCP("<host name='a&#10;b' ip='192.168.5.2'/>"), "a?b"},
         {DHCP("<host name='set:x' ip='192.168.5.2'/>"), "set:x"},
         {DHCP("<host id='xy' name='a' ip='192.168.5.2'/>"), "hexadecimal"},
         {DHCP6("<host mac='52:54:00:00:00:02' ip='fd00::2'/>"), "by id or name"},
         {DHCP6("<host ip='fd00::2'/>"), "id or name"},
         {DHCP6("<host name='a' ip='fd00::1'/>"), "the host itself"},
         {DHCP6("<host name='a' ip='fd00::2'/><host id='01' name='a' ip='fd00::3'/>"), "two <host> have name"},
         {DHCP6("<host id='01' ip='fd00::2'/><host id='01' ip='fd00::3'/>"), "two <host> have id"}});
    expect_whole({DHCP(A_HOST) DHCP6("<host name='two' ip='fd00::2'/>")});
}

TEST(NetworkRules, Bootp) {
    expect_broken({{DHCP("<bootp/>"), "'file' is missing"},
                   {DHCP("<bootp file='a' server='b'/>"), "not an IP address"},
                   {DHCP("<bootp file='a' server='fd00::1'/>"), "IPv4"},
                   {DHCP("<bootp file='a,b'/>"), "commas"},
                   {DHCP("<bootp file='a&quot;'/>"), "quotes"},
                   {DHCP6("<bootp file='a'/>"), "IPv4 only"}});
    expect_whole({DHCP("<bootp file='http://10.0.0.1/a?b=c' server='10.9.9.9'/>")});
}

TEST(NetworkRules, Routes) {
    const auto routed = [](const std::string& route) {
        return network_refusal(WITH_IP "<ip family='ipv6' address='fd00::1' prefix='64'/>" + route);
    };
    const std::pair<const char*, const char*> broken[]{
        {"<route address='10.0.0.0' prefix='8' gateway='10.0.0.1'/>", "not in a network of this one"},
        {"<route address='10.0.0.0' prefix='8' gateway='192.168.5.1'/>", "is the host itself"},
        {"<route address='10.0.0.1' prefix='8' gateway='192.168.5.2'/>", "which is 10.0.0.0"},
        {"<route address='10.0.0.0' prefix='8' gateway='fd00::2'/>", "other family"},
        {"<route address='10.0.0.0' prefix='8'/>", "'gateway' is missing"},
        {"<route address='10.0.0.0' prefix='8' netmask='255.0.0.0' gateway='192.168.5.2'/>", "exclude each other"},
        {"<route address='10.0.0.0' prefix='8' gateway='192.168.5.2' metric='0'/>", "metric is 1"},
        {"<route address='fd01::' prefix='64' gateway='fd00::2'/>", "needs family='ipv6'"},
        {"<route address='10.0.0.0' gateway='192.168.5.2'/><route address='10.0.0.0' prefix='8' "
         "gateway='192.168.5.3'/>",
         "same metric"},
    };
    for (const auto& [route, said] : broken) EXPECT_REFUSED(routed(route), Code::invalid_xml, said);
    for (const auto* route : {"<route address='0.0.0.0' gateway='192.168.5.2'/>",
                              "<route family='ipv6' address='::' prefix='0' gateway='fd00::2'/>",
                              "<route address='10.0.0.0' gateway='192.168.5.2'/>"
                              "<route address='10.0.0.0' gateway='192.168.5.3' metric='2'/>"})
        EXPECT_EQ(routed(route).message, "");
}

// ---- names and records

TEST(NetworkRules, DomainNames) {
    expect_broken({{"<domain/>", "'name' is missing"},
                   {"<domain name='a b'/>", "DNS name"},
                   {"<domain name='a,10.0.0.0/8'/>", "DNS name"},
                   {"<domain name='a&#10;dhcp-script=/bin/sh'/>", "DNS name"},
                   {"<domain name='a/b'/>", "DNS name"},
                   {"<domain name='a..b'/>", "DNS name"},
                   {"<domain name='.a'/>", "DNS name"},
                   {"<domain name='-a'/>", "DNS name"},
                   {"<domain name='bücher.example'/>", "DNS name"},
                   {"<domain name='#'/>", "DNS name"}});
    const std::string label(63, 'a');
    EXPECT_EQ(network_refusal("<domain name='" + label + ".b'/>").message, "");
    EXPECT_NE(network_refusal("<domain name='" + label + "a.b'/>").message, "");
    EXPECT_NE(network_refusal("<domain name='" + label + "." + label + "." + label + "." + label + "'/>").message, "");
}

TEST(NetworkRules, Records) {
    expect_broken({{"<dns enable='no' forwardPlainNames='yes'/>", "need a DNS server"},
                   {"<dns enable='no'><txt name='a' value='b'/></dns>", "need a DNS server"},
                   {DNS("<forwarder/>"), "'addr' or 'domain'"},
                   {DNS("<forwarder addr='8.8.8.8#53'/>"), "not an IP address"},
                   {DNS("<forwarder domain='a/b'/>"), "DNS name"},
                   {DNS("<txt value='b'/>"), "'name' is missing"},
                   {DNS("<txt name='a b' value='b'/>"), "DNS name"},
                   {DNS("<txt name='a' value='x&quot;y'/>"), "quotes"},
                   {DNS("<txt name='a' value='x\\y'/>"), "backslashes"},
                   {DNS("<txt name='a' value='x&#10;y'/>"), "line breaks"},
                   {DNS("<txt name='a' value='x'/><txt name='a' value='y'/>"), "occurs twice"},
                   {DNS("<srv protocol='tcp'/>"), "service=''"},
                   {DNS("<srv service='a'/>"), "protocol=''"},
                   {DNS("<srv service='a' protocol='sctp'/>"), "tcp, udp"},
                   {DNS("<srv service='a.b' protocol='tcp'/>"), "service='a.b'"},
                   {DNS("<srv service='a' protocol='tcp' port='1'/>"), "need a target"},
                   {DNS("<srv service='a' protocol='tcp' target='t' port='0'/>"), "port='0'"},
                   {DNS("<srv service='a' protocol='tcp' target='t' weight='65536'/>"), "65535"},
                   {DNS("<srv service='a' protocol='tcp' target='t,1'/>"), "DNS name"},
                   {DNS("<srv service='a' protocol='tcp' domain='d e'/>"), "DNS name"},
                   {DNS("<host><hostname>a</hostname></host>"), "not an IP address"},
                   {DNS("<host ip='10.0.0.1'/>"), "no <hostname>"},
                   {DNS("<host ip='10.0.0.1'><hostname>a b</hostname></host>"), "DNS name"},
                   {DNS("<host ip='10.0.0.1'><hostname>a\nb</hostname></host>"), "DNS name"},
                   {DNS("<host ip='10.0.0.1'><hostname>a</hostname><hostname>a</hostname></host>"), "twice"},
                   {DNS("<host ip='10.0.0.1'><hostname>a</hostname></host><host ip='10.0.0.1'><hostname>b</hostname>"
                        "</host>"),
                    "occurs twice"}});
    EXPECT_EQ(network_refusal("<dns><txt name='a' value='" + std::string(255, 'x') + "'/></dns>").message, "");
    EXPECT_REFUSED(network_refusal("<dns><txt name='a' value='" + std::string(256, 'x') + "'/></dns>"),
                   Code::invalid_xml, "at most 255");
    expect_whole(
        {DNS("<srv service='a' protocol='tcp' target='t' port='1' priority='0' weight='0'/>"), "<dns enable='no'/>"});
}

TEST(NetworkRules, DnsmasqOptions) {
    const auto option = [](const std::string& value) {
        return refusal([&] {
            auto config = parse_network(
                              "<network xmlns:d='http://libvirt.org/schemas/network/dnsmasq/1.0'><name>n</name>"
                              "<d:options><d:option value='" +
                              value + "'/></d:options></network>")
                              .config;
            ASSERT_EQ(config.dnsmasq_options.size(), 1U);
            complete_network(config);
        });
    };
    EXPECT_EQ(option("cache-size=0").message, "");
    EXPECT_REFUSED(option(""), Code::invalid_xml, "one line");
    EXPECT_REFUSED(option("a&#10;b"), Code::invalid_xml, "one line");
    EXPECT_REFUSED(option(std::string(1025, 'a')), Code::invalid_xml, "1024");
    const auto foreign = parse_network("<network xmlns:dnsmasq='urn:x'><name>n</name><dnsmasq:options/></network>");
    EXPECT_TRUE(foreign.config.dnsmasq_options.empty());
    EXPECT_EQ(foreign.unknown.size(), 1U);
}

// ---- ports

#define VLAN(tags) "<vlan>" tags "</vlan>"
#define GROUP(elements) "<portgroup name='g'>" elements "</portgroup>"
#define WHOLE "<bandwidth><inbound average='100' peak='200'/></bandwidth>"

TEST(NetworkRules, Vlans) {
    expect_broken(
        {{VLAN("<tag id='1'/>"), "<vlan> is not allowed here"},
         {"<forward mode='private' dev='eth0'/>" VLAN("<tag id='1'/>"), "<vlan> is not allowed here"},
         {"<forward mode='bridge' dev='eth0'/>" VLAN("<tag id='1'/>"), "<vlan> is not allowed here"},
         {GROUP(VLAN("<tag id='1'/>")), "<portgroup name='g'>: <vlan> is not allowed here"},
         {BRIDGED VLAN(""), "<tag>"},
         {BRIDGED VLAN("<tag id='4096'/>"), "4095"},
         {BRIDGED VLAN("<tag id='1'/><tag id='1'/>"), "occurs twice"},
         {BRIDGED "<vlan trunk='no'><tag id='1'/><tag id='2'/></vlan>", "one is allowed"},
         {BRIDGED VLAN("<tag id='1' nativeMode='tagged'/><tag id='2' nativeMode='untagged'/>"), "nativeMode"}});
    expect_whole({BRIDGED VLAN("<tag id='1'/><tag id='2' nativeMode='untagged'/>")});
}

TEST(NetworkRules, VirtualPorts) {
    expect_broken(
        {{"<virtualport type='openvswitch'/>", "made here"},
         {GROUP("<virtualport type='802.1Qbh'/>"), "made here"},
         {"<forward mode='vepa' dev='eth0'/><virtualport type='openvswitch'/>", "needs <forward mode='bridge'>"},
         {BRIDGED "<virtualport type='vmware'/>", "openvswitch"}});
}

TEST(NetworkRules, Bandwidth) {
    expect_broken({{"<bandwidth><inbound peak='1'/></bandwidth>", "needs an average"},
                   {"<bandwidth><outbound burst='1'/></bandwidth>", "needs an average"},
                   {"<bandwidth><inbound average='10' peak='9'/></bandwidth>", "peak='9' is less"},
                   {"<bandwidth><inbound average='0'/></bandwidth>", "average='0'"},
                   {"<bandwidth><inbound average='9999999999999'/></bandwidth>", "too much"},
                   {"<bandwidth><inbound average='10' floor='5'/></bandwidth>", "no floor"},
                   {"<bandwidth><outbound average='10' floor='5'/></bandwidth>", "no floor"},
                   {GROUP("<bandwidth><inbound floor='5'/></bandwidth>"), "needs a <bandwidth> of the whole"},
                   {WHOLE GROUP("<bandwidth><inbound floor='201'/></bandwidth>"), "more than the 200"},
                   {WHOLE GROUP("<bandwidth><inbound floor='5' burst='5'/></bandwidth>"), "need an average"},
                   {BRIDGED GROUP("<bandwidth><inbound floor='5'/></bandwidth>"), "made here"}});
    expect_whole({WHOLE GROUP("<bandwidth><inbound floor='200'/></bandwidth>"),
                  BRIDGED GROUP("<bandwidth><inbound average='5'/></bandwidth>")});
}

TEST(NetworkRules, PortGroups) {
    expect_broken({{"<portgroup/>", "'name' is missing"},
                   {"<portgroup name='a'/><portgroup name='a'/>", "occurs twice"},
                   {"<portgroup name='a' default='yes'/><portgroup name='b' default='yes'/>", "'a' and 'b'"}});
    expect_whole({"<portgroup name='a' default='yes'/><portgroup name='b' default='no'/>"});
}

// ---- hostile documents

TEST(HostileNetwork, IsRefused) {
    const auto parsed = [](const std::string& text) { return refusal([&] { parse_network(text); }); };
    EXPECT_EQ(parsed("<!DOCTYPE n [<!ENTITY e 'x'>]><network><name>&e;</name></network>").code, Code::invalid_xml);
    EXPECT_EQ(parsed("<domain><name>n</name></domain>").code, Code::invalid_xml);
    EXPECT_EQ(parsed("<network><name>n</name></network><network/>").code, Code::invalid_xml);
    EXPECT_EQ(parsed("<network><name>a\x01</name></network>").code, Code::invalid_xml);
    EXPECT_EQ(parsed("<network><name>\xc3\x28</name></network>").code, Code::invalid_xml);
    EXPECT_EQ(parsed("<network><name>a</name><name>b</name></network>").code, Code::invalid_xml);
    EXPECT_EQ(parsed("<x:network xmlns:x='urn:x'/>").code, Code::invalid_xml);
    EXPECT_EQ(parsed(std::string(9UL << 20U, ' ')).code, Code::limits_exceeded);
    std::string deep, many;
    for (int i = 0; i < 100; ++i) deep += "<a>";
    EXPECT_EQ(parsed("<network>" + deep).code, Code::limits_exceeded);
    for (int i = 0; i < 5000; ++i) many += "<portgroup name='g'/>";
    EXPECT_EQ(parsed(network(many)).code, Code::invalid_xml);
}

TEST(HostileNetwork, ManyHostsAreNotSlow) {
    std::string hosts;
    for (int i = 2; i < 4000; ++i) hosts += fmt::format("<host name='h{}' ip='10.0.{}.{}'/>", i, i / 256, i % 256);
    EXPECT_EQ(network_refusal("<ip address='10.0.0.1' prefix='16'><dhcp>" + hosts + "</dhcp></ip>").message, "");
}

TEST(PeekIdentity, OfABrokenNetwork) {
    const auto identity = peek_identity(
        "<network><name>n</name><uuid>9A05DA11-e96b-47f3-8253-a3a482e445f5</uuid><mtu size='x'/></network>", "network");
    ASSERT_TRUE(identity);
    EXPECT_EQ(identity->name, "n");
    EXPECT_EQ(identity->uuid, "9a05da11-e96b-47f3-8253-a3a482e445f5");
    EXPECT_FALSE(peek_identity("<domain><name>n</name></domain>", "network"));
}

TEST(WithoutLive, ForgetsCountsAndTheFunctionsOfACard) {
    const auto stored = without_live(parse_network(network_file("hostdev-live")).config);
    EXPECT_FALSE(stored.connections);
    EXPECT_TRUE(stored.forward->addresses.empty());
    EXPECT_EQ(without_live(parse_network(network_file("hostdev-addresses")).config).forward->addresses.size(), 2U);
}

// ---- what the model says of itself

TEST(NetworkModel, NetOfWithoutPrefixGoesByClass) {
    const auto nets = parse_network(network_file("nat-classful")).config.ips;
    EXPECT_EQ(net_of(nets.at(0)).prefix, 8U);
    EXPECT_EQ(net_of(nets.at(1)).prefix, 16U);
    EXPECT_EQ(net_of(nets.at(2)).prefix, 24U);
    EXPECT_EQ(net_of(nets.at(3)).text(), "2001:db8::1/64");
}

TEST(NetworkModel, KindsOfModes) {
    const auto config = [](const std::string& name) { return parse_network(network_file(name)).config; };
    EXPECT_EQ(forward_mode(config("isolated")), ForwardMode::none);
    EXPECT_EQ(forward_mode(config("nat-implied")), ForwardMode::nat);
    EXPECT_TRUE(is_virtual(ForwardMode::none) && is_virtual(ForwardMode::open) && !is_virtual(ForwardMode::bridge));
    EXPECT_TRUE(is_routed(ForwardMode::open) && !is_routed(ForwardMode::none) && !is_routed(ForwardMode::hostdev));
    EXPECT_FALSE(is_pool(config("host-bridge")));
    EXPECT_FALSE(is_pool(config("nat-default")));
    EXPECT_TRUE(is_pool(config("bridge-macvtap")));
    EXPECT_TRUE(is_pool(config("hostdev-card")));
    EXPECT_FALSE(wants_dnsmasq(config("isolated")));
    EXPECT_TRUE(wants_dnsmasq(config("nat-default")));
    EXPECT_FALSE(wants_dnsmasq(config("dns-off")));
    EXPECT_TRUE(wants_dnsmasq(config("isolated-ipv6")));
    EXPECT_FALSE(wants_dnsmasq(config("host-bridge")));
}

}  // namespace
}  // namespace virtbus::xml
