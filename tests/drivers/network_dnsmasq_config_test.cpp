// SPDX-License-Identifier: LGPL-2.1-or-later
// What dnsmasq is told of a definition, and that the real one takes every word of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "network/dnsmasq_config.hpp"
#include "tests/support/run.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

NetworkIp ip(std::string family, std::string address, std::uint32_t prefix) {
    NetworkIp result;
    result.family = std::move(family);
    result.address = std::move(address);
    result.prefix = prefix;
    return result;
}

NetworkConfig network() {
    NetworkConfig config;
    config.name = "net";
    config.bridge.emplace().name = "virbr7";
    config.forward.emplace().mode = ForwardMode::nat;
    auto& v4 = config.ips.emplace_back(ip("ipv4", "192.168.77.1", 24));
    v4.dhcp.emplace().ranges.push_back({"192.168.77.10", "192.168.77.19", {}, {}});
    return config;
}

/// The files, after the real dnsmasq has found them free of errors.
DnsmasqFiles checked(const NetworkConfig& config) {
    const tests::TemporaryFolder folder;
    const auto files = dnsmasq_files(config, folder.path(), "root");
    std::filesystem::create_directory(folder.path() + "/run");
    std::ofstream{folder.path() + "/conf"} << files.config;
    std::ofstream{folder.path() + "/hosts"} << files.hosts;
    std::ofstream{folder.path() + "/dhcp-hosts"} << files.leases;
    const auto said = folder.path() + "/said";
    const auto command = "dnsmasq --test --conf-file=" + folder.path() + "/conf 2>" + said;
    if (std::system(command.c_str()) != 0) {
        std::ostringstream text;
        text << std::ifstream{said}.rdbuf();
        ADD_FAILURE() << text.str() << files.config;
    }
    return files;
}

Code refusal(const NetworkConfig& config, const std::string& named) {
    try {
        const auto files = dnsmasq_files(config, "/run/x", "");
        ADD_FAILURE() << "'" << named << "' was taken:\n" << files.config << files.hosts << files.leases;
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr(named));
        EXPECT_EQ(std::string{error.what()}.find('\n'), std::string::npos) << error.what();
        return error.code();
    }
    return Code::internal;
}

TEST(DnsmasqConfig, ServesItsBridgeAndNothingElse) {
    const auto config = checked(network()).config;
    for (const auto* line : {"\ninterface=virbr7\n", "\nbind-dynamic\n", "\nexcept-interface=lo\n", "\nstrict-order\n",
                             "\ndhcp-range=192.168.77.10,192.168.77.19,255.255.255.0\n", "\ndhcp-authoritative\n",
                             "\ndhcp-no-override\n", "\ndhcp-lease-max=256\n", "\nuser=root\n"})
        EXPECT_THAT(config, HasSubstr(line));
    for (const auto* word : {"dhcp-script", "no-resolv", "dhcp-option=3", "enable-ra", "port=0", "enable-tftp"})
        EXPECT_THAT(config, Not(HasSubstr(word)));
}

TEST(DnsmasqConfig, AnIsolatedNetworkHasNoWayOut) {
    auto config = network();
    config.forward.reset();
    const auto text = checked(config).config;
    EXPECT_THAT(text, HasSubstr("\ndhcp-option=3\n"));
    EXPECT_THAT(text, HasSubstr("\nno-resolv\n"));
    EXPECT_THAT(text, HasSubstr("\nra-param=*,0,0\n"));
}

TEST(DnsmasqConfig, NamesAreServedAsDefined) {
    auto config = network();
    config.domain.emplace().name = "example.test";
    config.domain->local_only = true;
    auto& dns = config.dns.emplace();
    dns.forward_plain_names = false;
    dns.forwarders = {{"corp.test", "10.0.0.53", {}}, {"other.test", "", {}}};
    dns.texts = {{"example.test", "v=spf1 a, \"b\" \\ # c", {}}};
    dns.services = {{"ldap", "tcp", "example.test", "dc.example.test", 389, {}, 5, {}},
                    {"sip", "udp", "", "", {}, {}, {}, {}}};
    dns.hosts = {{"192.168.77.5", {"gw", "gate.example.test"}, {}}, {"fd00::5", {"six"}, {}}};
    const auto files = checked(config);
    for (const auto* line : {"\nlocal=/example.test/\n", "\ndomain=example.test\n", "\nexpand-hosts\n",
                             "\ndomain-needed\n", "\nserver=/corp.test/10.0.0.53\n", "\nserver=/other.test/#\n",
                             "\ntxt-record=example.test,\"v=spf1 a, \\\"b\\\" \\\\ # c\"\n",
                             "\nsrv-host=_ldap._tcp.example.test,dc.example.test,389,0,5\n", "\nsrv-host=_sip._udp\n"})
        EXPECT_THAT(files.config, HasSubstr(line));
    EXPECT_THAT(files.config, Not(HasSubstr("no-resolv")));
    EXPECT_EQ(files.hosts, "192.168.77.5 gw gate.example.test\nfd00::5 six\n");
    config.dns->forwarders.push_back({"", "10.0.0.54", {}});
    EXPECT_THAT(checked(config).config, HasSubstr("\nno-resolv\n")) << "somebody else is asked for everything";
    config.dns->enable = false;
    const auto without = checked(config);
    EXPECT_THAT(without.config, HasSubstr("\nport=0\n"));
    EXPECT_THAT(without.config, Not(HasSubstr("server=")));
    EXPECT_EQ(without.hosts, "");
}

TEST(DnsmasqConfig, HostsHaveTheirAddressesNamesAndTimes) {
    auto config = network();
    auto& dhcp = *config.ips[0].dhcp;
    dhcp.ranges[0].lease = LeaseTime{2, "hours", {}};
    dhcp.hosts = {{"52:54:00:00:00:01", "", "web", "192.168.77.50", {}, {}},
                  {"52:54:00:00:00:02", "", "", "192.168.77.51", LeaseTime{0, "", {}}, {}},
                  {"", "01:52:54:00:00:00:03", "", "192.168.77.52", LeaseTime{90, "seconds", {}}, {}},
                  {"", "", "named", "192.168.77.53", LeaseTime{3, "", {}}, {}}};
    auto& v6 = config.ips.emplace_back(ip("ipv6", "fd00:77::1", 64));
    v6.dhcp.emplace().ranges.push_back({"fd00:77::100", "fd00:77::1ff", {}, {}});
    v6.dhcp->hosts = {{"", "0:3:0:1:0:16:3e:11:22:33", "six", "fd00:77::6", {}, {}}};
    config.mtu = 9000;
    const auto files = checked(config);
    EXPECT_EQ(files.leases,
              "52:54:00:00:00:01,192.168.77.50,web\n"
              "52:54:00:00:00:02,192.168.77.51,infinite\n"
              "id:01:52:54:00:00:00:03,192.168.77.52,90\n"
              "192.168.77.53,named,180\n"
              "id:0:3:0:1:0:16:3e:11:22:33,[fd00:77::6],six\n");
    for (const auto* line : {"\ndhcp-range=192.168.77.10,192.168.77.19,255.255.255.0,7200\n",
                             "\ndhcp-range=fd00:77::100,fd00:77::1ff,64\n", "\nenable-ra\n",
                             "\ndhcp-option=option:mtu,9000\n", "\ndhcp-lease-max=65536\n", "/dhcp-hosts\n"})
        EXPECT_THAT(files.config, HasSubstr(line));
}

TEST(DnsmasqConfig, HostsAloneGetStaticRanges) {
    auto config = network();
    config.ips[0].dhcp->ranges.clear();
    config.ips[0].dhcp->hosts = {{"52:54:00:00:00:01", "", "", "192.168.77.50", {}, {}}};
    auto& v6 = config.ips.emplace_back(ip("ipv6", "fd00:77::1", 64));
    v6.dhcp.emplace().hosts = {{"", "0:1", "six", "fd00:77::6", {}, {}}};
    const auto text = checked(config).config;
    EXPECT_THAT(text, HasSubstr("\ndhcp-range=192.168.77.1,static,255.255.255.0\n"));
    EXPECT_THAT(text, HasSubstr("\ndhcp-range=fd00:77::1,static,64\n"));
}

TEST(DnsmasqConfig, Ipv6WithoutDhcpIsAnnounced) {
    NetworkConfig config = network();
    config.ips = {ip("ipv6", "fd00:77::1", 64), ip("ipv6", "fd00:78::1", 80)};
    const auto text = checked(config).config;
    EXPECT_THAT(text, HasSubstr("\ndhcp-range=fd00:77::1,ra-only\n"));
    EXPECT_THAT(text, Not(HasSubstr("fd00:78"))) << "guests make their addresses from 64 bits only";
    EXPECT_THAT(text, Not(HasSubstr("dhcp-hostsfile")));
    config.ips[1].dhcp.emplace().ranges.push_back({"fd00:78::5", "fd00:78::6", {}, {}});
    checked(config);
    config.ips[1].prefix = 48;
    EXPECT_EQ(refusal(config, "fd00:78::1/48"), Code::unsupported_configuration);
}

TEST(DnsmasqConfig, MachinesBootFromIt) {
    auto config = network();
    config.ips[0].tftp_root = "/srv/t \"f\"";
    config.ips[0].dhcp->bootp = DhcpBootp{"pxe, linux.0", "", {}};
    auto text = checked(config).config;
    EXPECT_THAT(text, HasSubstr("\nenable-tftp\ntftp-root=\"/srv/t \\\"f\\\"\"\n"));
    EXPECT_THAT(text, HasSubstr("\ndhcp-boot=\"pxe, linux.0\"\n"));
    config.ips[0].dhcp->bootp->server = "192.168.77.9";
    EXPECT_THAT(checked(config).config, HasSubstr("\ndhcp-boot=\"pxe, linux.0\",,192.168.77.9\n"));
}

TEST(DnsmasqConfig, ReverseZonesStayHere) {
    auto config = network();
    config.ips[0].local_ptr = true;
    config.ips.push_back(ip("ipv6", "fd00:77::1", 60));
    config.ips[1].local_ptr = true;
    const auto text = checked(config).config;
    EXPECT_THAT(text, HasSubstr("\nlocal=/77.168.192.in-addr.arpa/\n"));
    EXPECT_THAT(text, HasSubstr("\nlocal=/0.0.0.0.0.0.0.7.7.0.0.0.0.d.f.ip6.arpa/\n"));
    config.ips[0].prefix = 25;
    EXPECT_EQ(refusal(config, "192.168.77.1/25"), Code::unsupported_configuration);
}

TEST(DnsmasqConfig, AnAdministratorsLinesAreTakenAsTheyAreOneByOne) {
    auto config = network();
    config.dnsmasq_options = {"no-ping", "address=/ads.test/0.0.0.0", "# a remark", ""};
    const auto text = checked(config).config;
    EXPECT_THAT(text, HasSubstr("\nno-ping\naddress=/ads.test/0.0.0.0\n"));
    for (const auto* line : {"no-ping\ndhcp-script=/x", "no-ping\rx", "dhcp-\"script\"=/x"}) {
        config.dnsmasq_options = {line};
        EXPECT_EQ(refusal(config, "<dnsmasq:options>"), Code::invalid_xml);
    }
    for (const auto* line : {"dhcp-script=/bin/sh", "  dhcp-luascript = /x", "conf-file=/tmp/x", "user=root",
                             "conf-script=/x", "pid-file=/etc/passwd"}) {
        config.dnsmasq_options = {line};
        EXPECT_EQ(refusal(config, "is not taken"), Code::unsupported_configuration) << line;
    }
}

/// Where a definition's words stand, and what would get out of their place there.
TEST(DnsmasqConfig, WordsCannotBreakOut) {
    using Set = void (*)(NetworkConfig&, const std::string&);
    const std::vector<Set> places{
        [](NetworkConfig& c, const std::string& s) { c.bridge->name = s; },
        [](NetworkConfig& c, const std::string& s) { c.domain.emplace().name = s; },
        [](NetworkConfig& c, const std::string& s) { c.dns.emplace().forwarders = {{s, "10.0.0.1", {}}}; },
        [](NetworkConfig& c, const std::string& s) { c.dns.emplace().forwarders = {{"", s, {}}}; },
        [](NetworkConfig& c, const std::string& s) { c.dns.emplace().texts = {{s, "x", {}}}; },
        [](NetworkConfig& c, const std::string& s) { c.dns.emplace().services = {{s, "tcp", "", "", {}, {}, {}, {}}}; },
        [](NetworkConfig& c, const std::string& s) { c.dns.emplace().services = {{"a", s, "", "", {}, {}, {}, {}}}; },
        [](NetworkConfig& c, const std::string& s) {
            c.dns.emplace().services = {{"a", "tcp", s, "", {}, {}, {}, {}}};
        },
        [](NetworkConfig& c, const std::string& s) {
            c.dns.emplace().services = {{"a", "tcp", "", s, {}, {}, {}, {}}};
        },
        [](NetworkConfig& c, const std::string& s) { c.dns.emplace().hosts = {{s, {"a"}, {}}}; },
        [](NetworkConfig& c, const std::string& s) { c.dns.emplace().hosts = {{"10.0.0.1", {s}, {}}}; },
        [](NetworkConfig& c, const std::string& s) { c.ips[0].dhcp->ranges[0].start = s; },
        [](NetworkConfig& c, const std::string& s) { c.ips[0].dhcp->ranges[0].end = s; },
        [](NetworkConfig& c, const std::string& s) { c.ips[0].dhcp->bootp = DhcpBootp{"f", s, {}}; },
        [](NetworkConfig& c, const std::string& s) { c.ips[0].dhcp->hosts = {{s, "", "", "192.168.77.5", {}, {}}}; },
        [](NetworkConfig& c, const std::string& s) { c.ips[0].dhcp->hosts = {{"", s, "", "192.168.77.5", {}, {}}}; },
        [](NetworkConfig& c, const std::string& s) { c.ips[0].dhcp->hosts = {{"", "", s, "192.168.77.5", {}, {}}}; },
        [](NetworkConfig& c, const std::string& s) { c.ips[0].dhcp->hosts = {{"", "", "a", s, {}, {}}}; },
    };
    for (std::size_t place = 0; place < places.size(); ++place)
        for (const auto* word : {"a\ndhcp-script=/x", "a b", "a,b", "a#b", "a/b", "a\"b", "a\tb", "[a]", "*"}) {
            auto config = network();
            places[place](config, word);
            EXPECT_EQ(refusal(config, "Network 'net'"), Code::invalid_xml) << place << ": " << word;
        }
    auto config = network();
    for (const Set set :
         {Set{[](NetworkConfig& c, const std::string& s) { c.ips[0].tftp_root = s; }},
          Set{[](NetworkConfig& c, const std::string& s) { c.ips[0].dhcp->bootp = DhcpBootp{s, "", {}}; }},
          Set{[](NetworkConfig& c, const std::string& s) { c.dns.emplace().texts = {{"a", s, {}}}; }}}) {
        config = network();
        set(config, "a\ndhcp-script=/x");
        EXPECT_EQ(refusal(config, "a\\x0adhcp-script=/x"), Code::invalid_xml);
    }
}

TEST(DnsmasqConfig, NamesThatMeanSomethingElseAreRefused) {
    auto config = network();
    for (const auto* name : {"ignore", "infinite", "45m", "-x"}) {
        config.ips[0].dhcp->hosts = {{"52:54:00:00:00:01", "", name, "", {}, {}}};
        EXPECT_EQ(refusal(config, name), Code::invalid_xml);
    }
    config.ips[0].dhcp->hosts = {{"", "", "", "192.168.77.7", {}, {}}};
    EXPECT_EQ(refusal(config, "192.168.77.7"), Code::invalid_xml);
    config = network();
    config.ips[0].dhcp->ranges[0].lease = LeaseTime{std::uint64_t{1} << 40, "hours", {}};
    EXPECT_EQ(refusal(config, "1099511627776 hours"), Code::invalid_xml);
    config = network();
    config.dns.emplace().texts = {{"a", std::string(256, 'x'), {}}};
    EXPECT_EQ(refusal(config, "255 bytes"), Code::invalid_xml);
}

}  // namespace
}  // namespace virtbus::network
