// SPDX-License-Identifier: LGPL-2.1-or-later
// What a host has that networks could collide with, in a network namespace of the test's own, with real servers.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "network/host_facts.hpp"
#include "tests/drivers/network_bed.hpp"
#include "tests/support/run.hpp"
#include "virtbus/fd.hpp"

using namespace virtbus;
using namespace virtbus::network;
using namespace virtbus::tests;

namespace {

NetworkConfig isolated(const std::string& address = "192.168.150.1") {
    NetworkConfig config;
    config.name = "lab";
    config.bridge.emplace().name = "vb0";
    config.ips = {{.address = address, .prefix = 24}};
    return config;
}

NetworkConfig forwarding(ForwardMode mode) {
    auto config = isolated();
    config.forward.emplace().mode = mode;
    return config;
}

struct NetworkFactsTest : ::testing::Test {
    void SetUp() override {
        if (!enter_network_namespace()) GTEST_SKIP() << "a network namespace needs root";
    }
    void TearDown() override {
        for (const auto* name : {"vb0", "br0", "eth7"})
            (void)std::system(("ip link del " + std::string{name} + " 2>/dev/null").c_str());
    }
    void make_eth7() {
        ASSERT_TRUE(
            succeeds("ip link add eth7 type veth peer name eth8 && ip link set eth7 up && "
                     "ip link set eth8 up"));
    }
};

bool has_route(const HostNetworks& host, const std::string& destination, const std::string& device) {
    return std::ranges::any_of(host.routes, [&](const HostRoute& route) {
        return route.destination.text() == destination && route.device == device;
    });
}

TEST_F(NetworkFactsTest, DevicesAddressesAndRoutesAreSeen) {
    make_eth7();
    ASSERT_TRUE(
        succeeds("ip link add br0 type bridge && ip addr add 10.1.2.3/20 dev eth7 && "
                 "ip addr add 10.77.0.1 peer 10.78.0.0/24 dev eth7 && ip -6 addr add fd07::1/64 dev eth7 nodad && "
                 "ip route add 172.20.0.0/16 via 10.1.2.4 && ip route add 172.21.0.0/16 table 77 dev eth7 && "
                 "ip route add blackhole 172.22.0.0/16 && ip route add local 172.23.0.0/16 dev lo"));
    const auto host = look_at_host();
    const auto bridge = std::ranges::find(host.links, "br0", &HostLink::name);
    ASSERT_NE(bridge, host.links.end());
    EXPECT_TRUE(bridge->bridge);
    const auto card = std::ranges::find(host.links, "eth7", &HostLink::name);
    ASSERT_NE(card, host.links.end());
    EXPECT_FALSE(card->bridge);
    EXPECT_TRUE(has_route(host, "10.1.0.0/20", "eth7"));
    EXPECT_TRUE(has_route(host, "10.77.0.1/32", "eth7"));
    EXPECT_TRUE(has_route(host, "10.78.0.0/24", "eth7"));
    EXPECT_TRUE(has_route(host, "fd07::/64", "eth7"));
    EXPECT_TRUE(has_route(host, "172.20.0.0/16", "eth7"));
    EXPECT_TRUE(has_route(host, "172.23.0.0/16", "lo"));
    EXPECT_TRUE(has_route(host, "127.0.0.0/8", "lo"));
    EXPECT_FALSE(has_route(host, "172.21.0.0/16", "eth7")) << "a table that only rules lead to";
    for (const auto& route : host.routes) EXPECT_NE(route.destination.text(), "172.22.0.0/16");
}

TEST_F(NetworkFactsTest, DefaultRoutesInPartsAndLinkLocalOnesAreNone) {
    make_eth7();
    ASSERT_TRUE(
        succeeds("ip addr add 10.1.2.3/20 dev eth7 && ip route add default via 10.1.2.4 && "
                 "ip route add 0.0.0.0/1 via 10.1.2.4 && ip route add 128.0.0.0/1 via 10.1.2.4 && "
                 "ip -6 route add default dev eth7 && ip -6 route add fc00::/7 dev eth7"));
    for (const auto& route : look_at_host().routes) {
        EXPECT_GT(route.destination.prefix, 7u) << route.destination.text();
        EXPECT_FALSE(route.destination.text().starts_with("fe80")) << route.destination.text();
    }
}

TEST_F(NetworkFactsTest, ARangeThatIsInUseIsRefusedByName) {
    make_eth7();
    ASSERT_TRUE(succeeds("ip addr add 192.168.150.200/28 dev eth7"));
    const auto error = failure_of([] { require_no_conflict(isolated(), look_at_host()); });
    EXPECT_EQ(error.code(), Code::unsupported_configuration);
    for (const auto* word : {"lab", "192.168.150.0/24", "192.168.150.192/28", "eth7"})
        EXPECT_NE(std::string{error.what()}.find(word), std::string::npos) << word << " in " << error.what();
    ASSERT_TRUE(
        succeeds("ip addr flush dev eth7 && ip addr add 10.1.2.3/20 dev eth7 && "
                 "ip route add 192.168.0.0/16 via 10.1.2.4"));
    EXPECT_EQ(failure_of([] { require_no_conflict(isolated(), look_at_host()); }).code(),
              Code::unsupported_configuration);
    require_no_conflict(isolated("192.169.150.1"), look_at_host());
}

TEST_F(NetworkFactsTest, ARouteThatTheHostHasIsRefused) {
    make_eth7();
    ASSERT_TRUE(succeeds("ip addr add 10.1.2.3/20 dev eth7 && ip route add 172.20.0.0/16 via 10.1.2.4"));
    auto config = isolated();
    config.routes = {{.address = "172.20.0.0", .prefix = 16, .gateway = "192.168.150.2"}};
    const auto error = failure_of([&] { require_no_conflict(config, look_at_host()); });
    EXPECT_NE(std::string{error.what()}.find("route to 172.20.0.0/16"), std::string::npos) << error.what();
    config.routes[0].prefix = 24;
    require_no_conflict(config, look_at_host());
}

TEST_F(NetworkFactsTest, ItsOwnBridgeIsNotInTheWayOfANetworkThatChanges) {
    ASSERT_TRUE(succeeds("ip link add vb0 type bridge && ip addr add 192.168.150.1/24 dev vb0 && ip link set vb0 up"));
    const auto host = look_at_host();
    require_free_ranges(isolated(), host);
    const auto error = failure_of([&] { require_no_conflict(isolated(), host); });
    EXPECT_EQ(error.code(), Code::already_exists);
    EXPECT_NE(std::string{error.what()}.find("'vb0'"), std::string::npos) << error.what();
}

TEST_F(NetworkFactsTest, DevicesThatForwardNamesMustBeThere) {
    auto nat = forwarding(ForwardMode::nat);
    nat.forward->dev = "eth7";
    const auto missing = failure_of([&] { require_no_conflict(nat, look_at_host()); });
    EXPECT_EQ(missing.code(), Code::unsupported_configuration);
    EXPECT_NE(std::string{missing.what()}.find("'eth7'"), std::string::npos) << missing.what();
    auto pool = forwarding(ForwardMode::passthrough);
    pool.bridge.reset();
    pool.forward->interfaces = {{.dev = "eth7"}};
    EXPECT_EQ(failure_of([&] { require_no_conflict(pool, look_at_host()); }).code(), Code::unsupported_configuration);
    auto cards = forwarding(ForwardMode::hostdev);
    cards.forward->cards = {{.dev = "eth7"}};
    EXPECT_EQ(failure_of([&] { require_no_conflict(cards, look_at_host()); }).code(), Code::unsupported_configuration);
    make_eth7();
    require_no_conflict(nat, look_at_host());
    require_no_conflict(pool, look_at_host());
    require_no_conflict(cards, look_at_host());
}

TEST_F(NetworkFactsTest, AHostBridgeMustBeOne) {
    auto config = forwarding(ForwardMode::bridge);
    config.bridge->name = "br0";
    config.ips.clear();
    EXPECT_EQ(failure_of([&] { require_no_conflict(config, look_at_host()); }).code(), Code::unsupported_configuration);
    ASSERT_TRUE(succeeds("ip link add br0 type bridge"));
    require_no_conflict(config, look_at_host());
    make_eth7();
    config.bridge->name = "eth7";
    EXPECT_EQ(failure_of([&] { require_no_conflict(config, look_at_host()); }).code(), Code::unsupported_configuration);
}

/// A socket bound as a server has it.
Fd server(int type, std::uint16_t port, const char* address, const char* device = nullptr) {
    const bool v6 = std::string_view{address}.find(':') != std::string_view::npos;
    Fd socket{::socket(v6 ? AF_INET6 : AF_INET, type, 0)};
    const int one = 1;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    ::setsockopt(socket.get(), IPPROTO_IP, IP_FREEBIND, &one, sizeof one);
    if (device) ::setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, device, std::strlen(device) + 1);
    int status = 0;
    if (v6) {
        sockaddr_in6 name{};
        name.sin6_family = AF_INET6;
        name.sin6_port = htons(port);
        ::inet_pton(AF_INET6, address, &name.sin6_addr);
        status = ::bind(socket.get(), reinterpret_cast<sockaddr*>(&name), sizeof name);
    } else {
        sockaddr_in name{};
        name.sin_family = AF_INET;
        name.sin_port = htons(port);
        ::inet_pton(AF_INET, address, &name.sin_addr);
        status = ::bind(socket.get(), reinterpret_cast<sockaddr*>(&name), sizeof name);
    }
    EXPECT_EQ(status, 0) << std::strerror(errno);
    if (type == SOCK_STREAM) EXPECT_EQ(::listen(socket.get(), 1), 0);
    return socket;
}

NetworkConfig with_dhcp() {
    auto config = isolated();
    config.ips[0].dhcp.emplace().ranges = {{.start = "192.168.150.2", .end = "192.168.150.99"}};
    return config;
}

TEST_F(NetworkFactsTest, AServerOnAllAddressesIsNamed) {
    require_free_ports(with_dhcp());
    for (const auto* address : {"0.0.0.0", "::"}) {
        const auto dns = server(SOCK_STREAM, 53, address);
        const auto error = failure_of([] { require_free_ports(with_dhcp()); });
        EXPECT_EQ(error.code(), Code::unsupported_configuration);
        for (const auto* word : {"lab", "DNS", "TCP port 53", "all addresses", "network_facts"})
            EXPECT_NE(std::string{error.what()}.find(word), std::string::npos) << word << " in " << error.what();
        auto without = with_dhcp();
        without.dns.emplace().enable = false;
        require_free_ports(without);
        require_free_ports(forwarding(ForwardMode::bridge));
    }
    const auto dhcp = server(SOCK_DGRAM, 67, "0.0.0.0");
    const auto error = failure_of([] { require_free_ports(with_dhcp()); });
    EXPECT_NE(std::string{error.what()}.find("UDP port 67"), std::string::npos) << error.what();
    require_free_ports(isolated());
}

TEST_F(NetworkFactsTest, AServerOnAddressesOrDevicesOfItsOwnIsNotInTheWay) {
    ASSERT_TRUE(succeeds("ip link add br0 type bridge && ip addr add 10.1.2.3/20 dev br0 && ip link set br0 up"));
    const auto dns = server(SOCK_STREAM, 53, "10.1.2.3");
    const auto dhcp = server(SOCK_DGRAM, 67, "0.0.0.0", "br0");
    require_free_ports(with_dhcp());
    const auto same = server(SOCK_STREAM, 53, "192.168.150.1");
    EXPECT_EQ(failure_of([] { require_free_ports(with_dhcp()); }).code(), Code::unsupported_configuration);
}

TEST_F(NetworkFactsTest, WithoutTheRightToTryThePortsAreLookedAt) {
    const auto dhcp = server(SOCK_DGRAM, 67, "0.0.0.0");
    const auto refused_to_nobody = [] {
        const pid_t child = ::fork();
        if (child == 0) {
            constexpr uid_t nobody = 65534;
            if (::setuid(nobody) != 0) ::_exit(2);
            try {
                require_free_ports(with_dhcp());
            } catch (const Error& error) {
                ::_exit(std::strstr(error.what(), "TCP port 53 is taken on all addresses") ? 1 : 3);
            }
            ::_exit(0);
        }
        int status = -1;
        ::waitpid(child, &status, 0);
        return WEXITSTATUS(status);
    };
    EXPECT_EQ(refused_to_nobody(), 0) << "a DHCP server may share its port";
    {
        const auto own = server(SOCK_STREAM, 53, "10.1.2.3");
        EXPECT_EQ(refused_to_nobody(), 0);
    }
    const auto dns = server(SOCK_STREAM, 53, "::");
    EXPECT_EQ(refused_to_nobody(), 1);
}

/// What is found out must be what dnsmasq finds, in each way that others run it.
TEST_F(NetworkFactsTest, ItIsDnsmasqsOwnOpinion) {
    ASSERT_TRUE(succeeds("ip link add br0 type bridge && ip addr add 10.1.0.1/24 dev br0 && ip link set br0 up"));
    if (!succeeds("dnsmasq --version >/dev/null 2>&1")) GTEST_SKIP() << "no dnsmasq";
    const TemporaryFolder folder;
    const auto pid_file = folder.path() + "/pid";
    const std::string common =
        "dnsmasq --conf-file=/dev/null --no-hosts --no-resolv --user=root --group=root "
        "--dhcp-leasefile=/dev/null --dhcp-range=10.1.0.10,10.1.0.20 ";
    struct Way {
        const char* options;
        bool conflicts;
    };
    for (const auto& [options, conflicts] : {Way{"", true},
                                             {"--port=0", true},
                                             {"--bind-interfaces --interface=br0 --except-interface=lo", false},
                                             {"--bind-dynamic --interface=br0", false},
                                             {"--bind-interfaces --listen-address=10.1.0.1", false}}) {
        ASSERT_TRUE(succeeds(common + "--pid-file=" + pid_file + " " + options)) << options;
        const auto end = [&] {
            const auto pid = std::stoi(output_of("cat " + pid_file));
            const Fd process{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
            ::kill(pid, SIGTERM);
            pollfd gone{process.get(), POLLIN, 0};
            EXPECT_EQ(::poll(&gone, 1, -1), 1);
        };
        if (conflicts)
            EXPECT_NE(std::string{failure_of([] { require_free_ports(with_dhcp()); }).what()}.find("dnsmasq"),
                      std::string::npos)
                << options;
        else
            EXPECT_NO_THROW(require_free_ports(with_dhcp())) << options;
        end();
    }
}

}  // namespace
