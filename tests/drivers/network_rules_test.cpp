// SPDX-License-Identifier: LGPL-2.1-or-later
// Rules of networks, loaded by real nftables: which packets pass between guests, other networks and the world outside,
// and that nobody else's rules are touched. All of it in network namespaces of the test's own.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include "network/netlink.hpp"
#include "network/rule_table.hpp"
#include "network/sysctl.hpp"
#include "tests/drivers/network_bed.hpp"
#include "virtbus/fd.hpp"

using namespace virtbus;
using namespace virtbus::network;
using namespace virtbus::tests;

namespace {

NetworkConfig network_of(ForwardMode mode, const std::string& bridge, int net) {
    NetworkConfig config;
    config.name = bridge;
    config.bridge.emplace().name = bridge;
    if (mode != ForwardMode::none) config.forward.emplace().mode = mode;
    config.ips = {{.address = "192.168." + std::to_string(net) + ".1", .prefix = 24},
                  {.family = "ipv6", .address = "fd00:" + std::to_string(net) + "::1", .prefix = 64}};
    return config;
}

/// A machine: a process in a network namespace of its own, on a bridge or a cable of this one.
class Peer {
public:
    /// The device's other end is put on `bridge`, or has `host` as its addresses.
    Peer(const std::string& name, const std::string& bridge, const std::string& v4, const std::string& v6,
         const std::string& gateway4, const std::string& gateway6)
        : device_{name + "h"} {
        int ready[2], end[2];
        EXPECT_EQ(::pipe(ready) + ::pipe(end), 0);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::close(end[1]);
            const bool entered = ::unshare(CLONE_NEWNET) == 0 && write_setting("net/ipv6/conf/default/accept_dad", "0");
            const char done = entered ? 'y' : 'n';
            (void)!::write(ready[1], &done, 1);
            char nothing;
            (void)!::read(end[0], &nothing, 1);
            ::_exit(0);
        }
        ::close(ready[1]);
        ::close(end[0]);
        end_ = Fd{end[1]};
        char done = 0;
        EXPECT_EQ(::read(ready[0], &done, 1), 1);
        EXPECT_EQ(done, 'y');
        ::close(ready[0]);
        const auto pid = std::to_string(pid_);
        EXPECT_TRUE(succeeds("ip link add " + device_ + " type veth peer name eth0 netns " + pid +
                             (bridge.empty() ? "" : " && ip link set " + device_ + " master " + bridge) +
                             " && ip link set " + device_ + " up && nsenter -t " + pid +
                             " -n sh -c 'ip link set lo up; ip link set eth0 up; ip addr add " + v4 +
                             "/24 dev eth0; ip -6 addr add " + v6 + "/64 dev eth0 nodad" +
                             (gateway4.empty() ? "" : "; ip route add default via " + gateway4) +
                             (gateway6.empty() ? "" : "; ip -6 route add default via " + gateway6) + "'"));
    }
    Peer(Peer&&) = delete;
    ~Peer() {
        (void)std::system(("ip link del " + device_).c_str());
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    bool does(const std::string& command) const {
        return succeeds("nsenter -t " + std::to_string(pid_) + " -n " + command);
    }
    /// In the peer's namespace.
    template <class Work>
    void in(Work work) const {
        std::thread{[&] {
            const Fd space{::open(("/proc/" + std::to_string(pid_) + "/ns/net").c_str(), O_RDONLY | O_CLOEXEC)};
            ASSERT_EQ(::setns(space.get(), CLONE_NEWNET), 0);
            work();
        }}.join();
    }

private:
    std::string device_;
    Fd end_;
    pid_t pid_ = -1;
};

struct Name {
    sockaddr_storage at{};
    socklen_t length = 0;
};
Name name_of(const std::string& address, std::uint16_t port) {
    Name name;
    if (address.find(':') != address.npos) {
        auto* to = reinterpret_cast<sockaddr_in6*>(&name.at);
        to->sin6_family = AF_INET6;
        to->sin6_port = htons(port);
        ::inet_pton(AF_INET6, address.c_str(), &to->sin6_addr);
        name.length = sizeof *to;
    } else {
        auto* to = reinterpret_cast<sockaddr_in*>(&name.at);
        to->sin_family = AF_INET;
        to->sin_port = htons(port);
        ::inet_pton(AF_INET, address.c_str(), &to->sin_addr);
        name.length = sizeof *to;
    }
    return name;
}

enum class Way { passes, refused, lost };
std::ostream& operator<<(std::ostream& out, Way way) {
    return out << (way == Way::passes ? "passes" : way == Way::refused ? "refused" : "lost");
}

/// Knocks at a port where nobody listens: the other side's own answer says that packets pass both ways, an ICMP message
/// that they are forbidden.
Way way(const Peer& from, const std::string& to, const std::string& own = {}) {
    Way result = Way::lost;
    from.in([&] {
        const auto target = name_of(to, 9);
        const Fd socket{::socket(target.at.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
        if (const auto name = name_of(own, 0); !own.empty()) {
            EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name.at), name.length), 0);
        }
        EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&target.at), target.length), 0);
        char knock = 0;
        EXPECT_EQ(::send(socket.get(), &knock, 1, 0), 1);
        constexpr int patience = 3000;
        pollfd answered{socket.get(), POLLIN, 0};
        if (::poll(&answered, 1, patience) != 1 || ::recv(socket.get(), &knock, 1, 0) >= 0) return;
        result = errno == ECONNREFUSED                      ? Way::passes
                 : errno == EHOSTUNREACH || errno == EACCES ? Way::refused
                                                            : Way::lost;
    });
    return result;
}

/// Which address and port a connection from one peer has when it comes to another.
std::string seen_from(const Peer& from, const Peer& to, const std::string& address) {
    Fd listener;
    const auto name = name_of(address, 7777);
    to.in([&] {
        listener = Fd{::socket(name.at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        const int one = 1;
        ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&name.at), name.length), 0);
        const timeval patience{5, 0};
        ::setsockopt(listener.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        ASSERT_EQ(::listen(listener.get(), 1), 0);
    });
    Fd client;
    from.in([&] {
        client = Fd{::socket(name.at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        const timeval patience{5, 0};
        ::setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&name.at), name.length), 0)
            << std::strerror(errno);
    });
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    const Fd server{::accept4(listener.get(), reinterpret_cast<sockaddr*>(&peer), &length, SOCK_CLOEXEC)};
    char host[INET6_ADDRSTRLEN + 8], port[8];
    ::getnameinfo(reinterpret_cast<sockaddr*>(&peer), length, host, sizeof host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV);
    return std::string{host} + " " + port;
}

/// How often the rules of this namespace have been changed.
std::uint32_t generation() {
    std::uint32_t answer = 0;
    const Socket socket{nl_socket_alloc()};
    nl_socket_disable_auto_ack(socket.get());
    nl_connect(socket.get(), NETLINK_NETFILTER);
    struct nfgenmsg header{};
    const Message message{nlmsg_alloc_simple((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN, NLM_F_REQUEST)};
    nlmsg_append(message.get(), &header, sizeof header, NLMSG_ALIGNTO);
    nl_socket_modify_cb(
        socket.get(), NL_CB_VALID, NL_CB_CUSTOM,
        [](nl_msg* reply, void* to) -> int {
            *static_cast<std::uint32_t*>(to) =
                ntohl(nla_get_u32(nlmsg_find_attr(nlmsg_hdr(reply), sizeof(nfgenmsg), NFTA_GEN_ID)));
            return NL_OK;
        },
        &answer);
    nl_send_auto(socket.get(), message.get());
    nl_recvmsgs_default(socket.get());
    return answer;
}

std::string ruleset() {
    return output_of("nft list ruleset");
}
std::string with_handles() {
    return output_of("nft -a list ruleset");
}

struct NetworkRulesTest : ::testing::Test {
    void SetUp() override {
        if (!enter_network_namespace()) GTEST_SKIP() << "a network namespace needs root";
        (void)std::system("nft flush ruleset");
    }
    RuleTable table;
};

/// Two networks with a guest each, and a machine outside that has routes to both.
struct NetworkPacketsTest : NetworkRulesTest {
    void SetUp() override {
        NetworkRulesTest::SetUp();
        if (IsSkipped()) return;
        ASSERT_TRUE(write_setting("net/ipv6/conf/default/accept_dad", "0"));
        // Each refusal is to be told, however many there were before.
        ASSERT_TRUE(write_setting("net/ipv4/icmp_ratelimit", "0") && write_setting("net/ipv6/icmp/ratelimit", "0"));
        ASSERT_TRUE(write_setting("net/ipv4/ip_forward", "1") && write_setting("net/ipv6/conf/all/forwarding", "1"));
        ASSERT_TRUE(
            succeeds("ip link add vb0 type bridge && ip link set vb0 up && ip addr add 192.168.150.1/24 dev vb0 && "
                     "ip -6 addr add fd00:150::1/64 dev vb0 nodad && "
                     "ip link add vb1 type bridge && ip link set vb1 up && ip addr add 192.168.151.1/24 dev vb1 && "
                     "ip -6 addr add fd00:151::1/64 dev vb1 nodad"));
        guest.emplace("ga", "vb0", "192.168.150.2", "fd00:150::2", "192.168.150.1", "fd00:150::1");
        other.emplace("gb", "vb1", "192.168.151.2", "fd00:151::2", "192.168.151.1", "fd00:151::1");
        outside.emplace("out", "", "203.0.113.2", "fd00:99::2", "203.0.113.1", "fd00:99::1");
        ASSERT_TRUE(succeeds("ip addr add 203.0.113.1/24 dev outh && ip -6 addr add fd00:99::1/64 dev outh nodad"));
    }
    void TearDown() override {
        guest.reset();
        other.reset();
        outside.reset();
        (void)std::system("ip link del vb0; ip link del vb1");
    }
    void set(const NetworkConfig& config) { table.set(rules_of(config)); }
    void set(ForwardMode first, ForwardMode second) {
        set(network_of(first, "vb0", 150));
        set(network_of(second, "vb1", 151));
    }
    static constexpr auto world = "203.0.113.2", world6 = "fd00:99::2", guest4 = "192.168.150.2",
                          guest6 = "fd00:150::2", other4 = "192.168.151.2", other6 = "fd00:151::2";
    std::optional<Peer> guest, other, outside;
};

TEST_F(NetworkPacketsTest, WithoutRulesEverythingPasses) {
    set(ForwardMode::open, ForwardMode::open);
    EXPECT_EQ(ruleset(), "");
    EXPECT_EQ(way(*guest, world), Way::passes);
    EXPECT_EQ(way(*outside, guest6), Way::passes);
    EXPECT_EQ(way(*other, guest4), Way::passes);
}

TEST_F(NetworkPacketsTest, AnIsolatedNetworkTalksToTheHostAndItself) {
    set(ForwardMode::none, ForwardMode::route);
    Peer neighbour{"gc", "vb0", "192.168.150.3", "fd00:150::3", "192.168.150.1", "fd00:150::1"};
    EXPECT_EQ(way(*guest, "192.168.150.3"), Way::passes);
    EXPECT_EQ(way(*guest, "fd00:150::3"), Way::passes);
    EXPECT_EQ(way(*guest, "192.168.150.1"), Way::passes);
    EXPECT_EQ(way(*guest, "fd00:150::1"), Way::passes);
    for (const auto* to : {world, world6, other4, other6}) EXPECT_EQ(way(*guest, to), Way::refused) << to;
    for (const auto* to : {guest4, guest6}) {
        EXPECT_EQ(way(*outside, to), Way::refused) << to;
        EXPECT_EQ(way(*other, to), Way::refused) << to;
    }
}

TEST_F(NetworkPacketsTest, BehindNatGuestsReachOutAndAreNotReached) {
    set(ForwardMode::nat, ForwardMode::nat);
    EXPECT_EQ(way(*guest, world), Way::passes);
    EXPECT_EQ(way(*outside, guest4), Way::refused);
    EXPECT_EQ(way(*guest, other4), Way::refused) << "the other network is behind NAT, too";
    EXPECT_EQ(way(*guest, world6), Way::passes);
    EXPECT_EQ(way(*outside, guest6), Way::passes) << "IPv6 is routed unless the definition says otherwise";
    ASSERT_TRUE(outside->does("ip route add blackhole 192.168.150.0/24")) << "so that only the host's address answers";
    const auto seen = seen_from(*guest, *outside, world);
    EXPECT_TRUE(seen.starts_with("203.0.113.1 ")) << seen;
    EXPECT_TRUE(seen_from(*guest, *outside, world6).starts_with("fd00:150::2 "));
}

TEST_F(NetworkPacketsTest, Ipv6IsTranslatedWhenAskedFor) {
    auto config = network_of(ForwardMode::nat, "vb0", 150);
    config.forward->nat.emplace().ipv6 = true;
    set(config);
    EXPECT_EQ(way(*outside, guest6), Way::refused);
    EXPECT_TRUE(seen_from(*guest, *outside, world6).starts_with("fd00:99::1 "));
}

TEST_F(NetworkPacketsTest, PortsAndAddressesAreTheDefinitions) {
    auto config = network_of(ForwardMode::nat, "vb0", 150);
    config.forward->nat.emplace().port = PortRange{.start = 61000, .end = 61010};
    set(config);
    auto seen = seen_from(*guest, *outside, world);
    const auto port = std::stoi(seen.substr(seen.find(' ')));
    EXPECT_TRUE(port >= 61000 && port <= 61010) << seen;
    config.forward->nat->address = AddressRange{.start = "203.0.113.77", .end = "203.0.113.77"};
    ASSERT_TRUE(succeeds("ip addr add 203.0.113.77/24 dev outh"));
    set(config);
    seen = seen_from(*guest, *outside, world);
    EXPECT_TRUE(seen.starts_with("203.0.113.77 610")) << seen;
    config.forward->nat->address->end = "203.0.113.78";
    ASSERT_TRUE(succeeds("ip addr add 203.0.113.78/24 dev outh"));
    set(config);
    EXPECT_TRUE(seen_from(*guest, *outside, world).starts_with("203.0.113.7"));
    EXPECT_EQ(way(*guest, world), Way::passes);
}

TEST_F(NetworkPacketsTest, ARoutedNetworkIsReachedFromEverywhere) {
    set(ForwardMode::route, ForwardMode::nat);
    for (const auto* to : {world, world6}) EXPECT_EQ(way(*guest, to), Way::passes) << to;
    for (const auto* to : {guest4, guest6}) {
        EXPECT_EQ(way(*outside, to), Way::passes) << to;
        EXPECT_EQ(way(*other, to), Way::passes) << to;
    }
    EXPECT_EQ(way(*guest, other4), Way::refused);
    EXPECT_TRUE(seen_from(*guest, *outside, world).starts_with("192.168.150.2 "));
}

TEST_F(NetworkPacketsTest, AGuestHasNoAddressOfOthers) {
    set(ForwardMode::route, ForwardMode::open);
    ASSERT_TRUE(guest->does("ip addr add 10.66.0.1/24 dev eth0") && succeeds("ip route add 10.66.0.0/24 dev vb0"));
    EXPECT_EQ(way(*guest, world, "10.66.0.1"), Way::refused);
    EXPECT_EQ(way(*outside, "10.66.0.1"), Way::refused);
}

TEST_F(NetworkPacketsTest, OnlyTheDeviceThatIsNamedLeadsOut) {
    auto config = network_of(ForwardMode::nat, "vb0", 150);
    config.forward->dev = "outh";
    set(config);
    set(network_of(ForwardMode::route, "vb1", 151));
    EXPECT_EQ(way(*guest, world), Way::passes);
    EXPECT_EQ(way(*guest, other4), Way::refused);
    EXPECT_EQ(way(*other, guest6), Way::refused) << "nor in";
    config.forward->dev = "vb1";
    set(config);
    EXPECT_EQ(way(*guest, world), Way::refused);
    EXPECT_EQ(way(*guest, other4), Way::passes);
}

TEST_F(NetworkPacketsTest, AModeThatChangesHoldsAtOnce) {
    set(ForwardMode::nat, ForwardMode::nat);
    EXPECT_EQ(way(*guest, world), Way::passes);
    set(network_of(ForwardMode::none, "vb0", 150));
    EXPECT_EQ(way(*guest, world), Way::refused);
    EXPECT_EQ(way(*other, world), Way::passes);
    set(network_of(ForwardMode::open, "vb0", 150));
    EXPECT_EQ(way(*outside, guest4), Way::passes);
}

// ---- the table

constexpr auto foreign =
    "add table ip theirs; add chain ip theirs forward { type filter hook forward priority 5; policy accept; }; "
    "add rule ip theirs forward ip saddr 192.168.150.0/24 counter comment \\\"theirs\\\"; "
    "add table inet filter; add set inet filter some { type ipv4_addr; elements = { 10.0.0.1 }; }";

void make_foreign() {
    ASSERT_TRUE(succeeds(std::string{"nft \""} + foreign + "\""));
}

TEST_F(NetworkRulesTest, AfterTheLastNetworkAllIsAsBefore) {
    make_foreign();
    const auto before = with_handles();
    table.set(rules_of(network_of(ForwardMode::nat, "vb0", 150)));
    table.set(rules_of(network_of(ForwardMode::none, "vb1", 151)));
    EXPECT_NE(ruleset().find("out_vb1"), std::string::npos);
    EXPECT_TRUE(with_handles().starts_with(before)) << "others' rules are not touched";
    table.remove("vb0");
    EXPECT_EQ(ruleset().find("vb0"), std::string::npos) << ruleset();
    EXPECT_NE(ruleset().find("out_vb1"), std::string::npos);
    table.remove("vb1");
    EXPECT_EQ(with_handles(), before);
    table.remove("vb1");
    EXPECT_EQ(with_handles(), before);
}

TEST_F(NetworkRulesTest, WhatAStrangerFlushesIsMadeAgain) {
    table.set(rules_of(network_of(ForwardMode::nat, "vb0", 150)));
    table.set(rules_of(network_of(ForwardMode::route, "vb1", 151)));
    const auto whole = ruleset();
    for (const auto* damage : {"nft flush ruleset", "nft delete element inet virtbus incoming '{ \"vb0\" }'",
                               "nft flush chain inet virtbus in_vb1", "nft insert rule inet virtbus forward accept",
                               "nft 'delete table inet virtbus; add table inet virtbus; add map inet virtbus outgoing "
                               "{ type ipv4_addr : verdict; }'"}) {
        ASSERT_TRUE(succeeds(damage));
        ASSERT_NE(ruleset(), whole) << damage;
        table.repair();
        EXPECT_EQ(ruleset(), whole) << damage;
    }
    ASSERT_TRUE(succeeds("nft flush ruleset"));
    table.set(rules_of(network_of(ForwardMode::nat, "vb0", 150)));
    EXPECT_EQ(ruleset(), whole) << "one network's change repairs the others";
    ASSERT_TRUE(succeeds("nft flush ruleset"));
    table.remove("vb0");
    table.remove("vb1");
    EXPECT_EQ(ruleset(), "");
}

TEST_F(NetworkRulesTest, NothingIsDoneWhenNobodyChangedAnything) {
    table.set(rules_of(network_of(ForwardMode::nat, "vb0", 150)));
    const auto before = generation();
    table.repair();
    table.set(rules_of(network_of(ForwardMode::nat, "vb0", 150)));
    EXPECT_EQ(generation(), before);
    make_foreign();
    const auto others = output_of("nft -a list table ip theirs");
    table.repair();
    EXPECT_EQ(output_of("nft -a list table ip theirs"), others);
    const auto repaired = generation();
    table.repair();
    EXPECT_EQ(generation(), repaired) << "once is enough";
}

TEST_F(NetworkRulesTest, ALaterDaemonTakesThemUp) {
    const auto first = rules_of(network_of(ForwardMode::nat, "vb0", 150));
    const auto second = rules_of(network_of(ForwardMode::nat, "vb1", 151));
    table.set(first);
    table.set(second);
    const auto whole = ruleset();
    RuleTable later;
    later.adopt(first);
    later.repair();
    EXPECT_EQ(ruleset(), whole) << "those of a network that is not adopted yet stay";
    ASSERT_TRUE(succeeds("nft flush chain inet virtbus in_vb1"));
    later.repair();
    later.adopt(second);
    later.repair();
    EXPECT_EQ(ruleset(), whole) << "one that is adopted later is looked after, too";
    later.remove("vb0");
    later.set(first);
    RuleTable last;
    last.set({"vb2", ""});
    last.adopt(second);
    last.remove("vb1");
    EXPECT_NE(ruleset().find("in_vb0"), std::string::npos) << "the table is another's, too";
    later.set(second);
    later.remove("vb0");
    EXPECT_EQ(ruleset().find("vb0"), std::string::npos);
    EXPECT_NE(ruleset().find("in_vb1"), std::string::npos);
    RuleTable third;
    third.remove("vb1");
    EXPECT_EQ(ruleset(), "");
}

TEST_F(NetworkRulesTest, ManyAtOnceShareTransactions) {
    constexpr int networks = 100, threads = 8;
    make_foreign();
    const auto before = with_handles();
    const auto from = generation();
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i)
        workers.emplace_back([this, i] {
            for (int n = i; n < networks; n += threads)
                table.set(rules_of(network_of(ForwardMode::nat, "vb" + std::to_string(n), n)));
        });
    for (auto& worker : workers) worker.join();
    EXPECT_LT(generation() - from, networks / 2u);
    const auto all = ruleset();
    for (int n = 0; n < networks; ++n) {
        const auto name = "vb" + std::to_string(n);
        for (const auto* kind : {"out_", "in_", "nat_"})
            EXPECT_NE(all.find("\"" + name + "\" : jump " + kind + name), std::string::npos) << name;
        EXPECT_NE(all.find("ip saddr 192.168." + std::to_string(n) + ".0/24 masquerade"), std::string::npos) << name;
    }
    workers.clear();
    for (int i = 0; i < threads; ++i)
        workers.emplace_back([this, i] {
            for (int n = i; n < networks; n += threads) table.remove("vb" + std::to_string(n));
        });
    for (auto& worker : workers) worker.join();
    EXPECT_EQ(with_handles(), before);
}

TEST_F(NetworkRulesTest, StrangersInBetweenLoseNothing) {
    constexpr int networks = 24, threads = 4, flushes = 24;
    std::thread stranger{[] {
        for (int i = 0; i < flushes; ++i) EXPECT_TRUE(succeeds("nft flush ruleset"));
    }};
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i)
        workers.emplace_back([this, i] {
            for (int n = i; n < networks; n += threads) {
                const auto rules = rules_of(network_of(ForwardMode::nat, "vb" + std::to_string(n), n));
                EXPECT_NO_THROW(table.set(rules));
                EXPECT_NO_THROW(table.repair());
            }
        });
    for (auto& worker : workers) worker.join();
    stranger.join();
    table.repair();
    const auto sorted = [] { return output_of("nft list ruleset | sort"); };  // chains are in the order they came
    const auto whole = sorted();
    for (int n = 0; n < networks; ++n) EXPECT_NE(whole.find("jump in_vb" + std::to_string(n)), std::string::npos) << n;
    ASSERT_TRUE(succeeds("nft flush ruleset"));
    table.repair();
    EXPECT_TRUE(sorted() == whole) << ruleset();
}

TEST_F(NetworkRulesTest, OneThatIsWrongDoesNotSpoilTheOthers) {
    EXPECT_EQ(failure_of([this] { table.set({"vb0", "chain nonsense\n"}); }).code(), Code::hypervisor_failed);
    EXPECT_EQ(ruleset(), "");
    std::vector<std::thread> workers;
    std::atomic<int> failed = 0;
    for (int n = 0; n < 16; ++n)
        workers.emplace_back([this, n, &failed] {
            auto rules = rules_of(network_of(ForwardMode::nat, "vb" + std::to_string(n), n));
            if (n % 4 == 0) rules.text += "nonsense\n";
            try {
                table.set(rules);
            } catch (const Error&) {
                ++failed;
            }
        });
    for (auto& worker : workers) worker.join();
    EXPECT_EQ(failed, 4);
    const auto all = ruleset();
    for (int n = 0; n < 16; ++n)
        EXPECT_EQ(all.find("chain in_vb" + std::to_string(n) + " ") != all.npos, n % 4 != 0) << n;
}

TEST_F(NetworkRulesTest, WithoutThePermissionItIsSaid) {
    const pid_t child = ::fork();
    if (child == 0) {
        constexpr uid_t nobody = 65534;
        if (::setuid(nobody) != 0) ::_exit(1);
        try {
            RuleTable{}.set(rules_of(network_of(ForwardMode::nat, "vb0", 150)));
        } catch (const Error& error) {
            ::_exit(error.code() == Code::access_denied && std::strstr(error.what(), "CAP_NET_ADMIN") ? 0 : 2);
        }
        ::_exit(3);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
}

// ---- the text

TEST_F(NetworkRulesTest, NamesCannotBreakOutOfTheirPlace) {
    for (const auto* name : {"vb-0", "vb.1", "vb_2", "vb@3", "a;b", "a}b", "$x", "0"})
        EXPECT_NO_THROW(table.set(rules_of(network_of(ForwardMode::nat, name, 150)))) << name;
    EXPECT_NE(ruleset().find("\"a}b\" : jump out_a_7db"), std::string::npos) << ruleset();
    for (const auto* name : {"", "a\"b", "a*", "a\\", "a\nb", "a b", "ü"})
        EXPECT_EQ(failure_of([&] { rules_of(network_of(ForwardMode::nat, name, 150)); }).code(), Code::invalid_xml)
            << name;
    auto device = network_of(ForwardMode::nat, "vb0", 150);
    device.forward->dev = "a\" accept";
    EXPECT_EQ(failure_of([&] { rules_of(device); }).code(), Code::invalid_xml);
    auto range = network_of(ForwardMode::nat, "vb0", 150);
    range.forward->nat.emplace().address = AddressRange{.start = "10.0.0.1", .end = "accept"};
    EXPECT_EQ(failure_of([&] { rules_of(range); }).code(), Code::invalid_xml);
}

TEST_F(NetworkRulesTest, RangesWithinRangesAreTakenOnce) {
    auto config = network_of(ForwardMode::nat, "vb0", 150);
    config.ips.push_back({.address = "192.168.150.130", .prefix = 25});
    config.ips.push_back({.address = "192.168.0.1", .prefix = 16});
    config.ips.push_back({.address = "192.168.150.9", .prefix = 24});
    const auto rules = rules_of(config);
    EXPECT_EQ(rules.text.find("192.168.150"), std::string::npos) << rules.text;
    table.set(rules);
}

TEST_F(NetworkRulesTest, RangesOfOneAndOfIpv6AreTaken) {
    auto config = network_of(ForwardMode::nat, "vb0", 150);
    auto& nat = config.forward->nat.emplace();
    nat.ipv6 = true;
    nat.port = PortRange{.start = 61000, .end = 61000};
    for (const auto& [start, end] : {std::pair{"fd00:99::5", "fd00:99::9"},
                                     {"fd00:99::5", "fd00:99::5"},
                                     {"203.0.113.5", "203.0.113.9"},
                                     {"203.0.113.5", "203.0.113.5"}}) {
        nat.address = AddressRange{.start = start, .end = end};
        EXPECT_NO_THROW(table.set(rules_of(config))) << start << " to " << end;
        EXPECT_NE(ruleset().find(start), std::string::npos) << ruleset();
    }
}

TEST_F(NetworkRulesTest, OnlyNetworksWithABridgeOfTheirOwnHaveRules) {
    for (const auto mode : {ForwardMode::open, ForwardMode::bridge, ForwardMode::private_, ForwardMode::hostdev})
        EXPECT_EQ(rules_of(network_of(mode, "vb0", 150)).text, "");
}

}  // namespace
