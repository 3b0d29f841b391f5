// SPDX-License-Identifier: LGPL-2.1-or-later
// Bandwidth of links and of networks: what the kernel is told, and that it keeps to it.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "network/bridge_shaping.hpp"
#include "network/shaping.hpp"
#include "network/tap.hpp"
#include "network/traffic_control.hpp"
#include "tests/drivers/link_bed.hpp"

using namespace virtbus;
using virtbus::tests::has_policing;
using virtbus::tests::is_there;
using virtbus::tests::output_of;
using Limits = virtbus::tests::LinkBed;

namespace {

constexpr unsigned many = 3000;   // frames: more than any bucket and queue on the way holds
constexpr unsigned frame = 1400;  // bytes

BandwidthLimit average(std::uint64_t kib) {
    BandwidthLimit limit;
    limit.average = kib;
    return limit;
}

/// The number behind the word in what tc shows of the class or qdisc, e.g. "dropped 12".
std::uint64_t number_after(const std::string& text, const std::string& word) {
    const auto at = text.find(word);
    return at == text.npos ? 0 : std::strtoull(text.c_str() + at + word.size(), nullptr, 10);
}

std::string class_of(const std::string& device, const std::string& id) {
    const auto all = output_of("tc -s class show dev " + device);
    const auto at = all.find("class htb " + id + " ");
    return at == all.npos ? "" : all.substr(at, all.find("class htb", at + 1) - at);
}

/// The guest sends so many frames to the address.
void send_frames(const Fd& tap, const std::string& to, unsigned count) {
    std::array<char, frame> bytes{};
    const auto target = network::parse_mac(to), source = network::parse_mac("52:54:00:01:02:03");
    std::memcpy(bytes.data(), target.data(), target.size());
    std::memcpy(bytes.data() + 6, source.data(), source.size());
    bytes[12] = '\x88';  // an EtherType for experiments
    bytes[13] = '\xb5';
    for (unsigned i = 0; i < count; ++i) ASSERT_EQ(::write(tap.get(), bytes.data(), bytes.size()), frame);
}

/// The host sends so many datagrams through the device to a neighbour at the address.
void send_datagrams(const std::string& device, const std::string& to, unsigned count) {
    ASSERT_EQ(
        std::system(fmt::format("ip addr replace 192.0.2.1/24 dev {} && ip neigh replace 192.0.2.77 lladdr {} dev "
                                "{} nud permanent",
                                device, to, device)
                        .c_str()),
        0);
    const Fd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    const int big = 1 << 26;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(9);
    ::inet_pton(AF_INET, "192.0.2.77", &address.sin_addr);
    const std::array<char, frame> bytes{};
    // What the kernel drops at once is not always an error of the call.
    for (unsigned i = 0; i < count; ++i)
        (void)::sendto(socket.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&address),
                       sizeof address);
}

TEST_F(Limits, WhatAGuestReceivesIsLimited) {
    auto wanted = request(InterfaceType::bridge);
    auto& limit = wanted.interface.bandwidth.emplace().inbound.emplace();
    limit.average = 1000;  // KiB a second
    limit.peak = 5000;
    limit.burst = 1024;
    const auto link = open(wanted);
    const auto classes = output_of("tc class show dev " + link.ifname);
    EXPECT_NE(classes.find("class htb 1:1 root"), std::string::npos) << classes;
    EXPECT_NE(classes.find("rate 8192Kbit ceil 40960Kbit burst 1Mb"), std::string::npos) << classes;
    EXPECT_NE(output_of("tc qdisc show dev " + link.ifname).find("default 0x1"), std::string::npos);
    close(link);
}

TEST_F(Limits, ThePoliceIsTold) {
    const auto message = network::police_request(7, 1024000, 1048576, 5120000);
    const auto* header = nlmsg_hdr(message.get());
    EXPECT_EQ(header->nlmsg_type, RTM_NEWTFILTER);
    const auto* filter = static_cast<const tcmsg*>(nlmsg_data(header));
    EXPECT_EQ(filter->tcm_ifindex, 7);
    EXPECT_EQ(filter->tcm_parent, 0xffff0000u);
    nlattr *top[TCA_MAX + 1], *options[TCA_U32_MAX + 1], *police[TCA_POLICE_MAX + 1];
    ASSERT_EQ(nlmsg_parse(nlmsg_hdr(message.get()), sizeof(tcmsg), top, TCA_MAX, nullptr), 0);
    ASSERT_EQ(nla_parse_nested(options, TCA_U32_MAX, top[TCA_OPTIONS], nullptr), 0);
    ASSERT_EQ(nla_parse_nested(police, TCA_POLICE_MAX, options[TCA_U32_POLICE], nullptr), 0);
    ASSERT_TRUE(police[TCA_POLICE_TBF] && police[TCA_POLICE_RATE] && police[TCA_POLICE_PEAKRATE]);
    const auto* rule = static_cast<const tc_police*>(nla_data(police[TCA_POLICE_TBF]));
    EXPECT_EQ(rule->action, TC_POLICE_SHOT);
    EXPECT_EQ(rule->rate.rate, 1024000u);
    EXPECT_EQ(rule->peakrate.rate, 5120000u);
    EXPECT_EQ(rule->burst, 16000000u) << "1 MiB at 1000 KiB/s is 1.024 s, in ticks of 64 ns";
    EXPECT_GE(rule->mtu, 65536u) << "what the guest leaves to be cut into frames is one of up to 64 KiB";
    EXPECT_EQ(nla_len(police[TCA_POLICE_RATE]), 1024) << "the kernel takes no other table";
}

TEST_F(Limits, LimitsThatAreNotKeptAreRefused) {
    auto floor = request(InterfaceType::bridge);
    floor.interface.bandwidth.emplace().inbound.emplace().average = 100;
    floor.interface.bandwidth->inbound->floor = 50;
    EXPECT_EQ(refusal(floor), Code::unsupported);
    auto huge = request(InterfaceType::bridge);
    huge.interface.bandwidth.emplace().inbound.emplace().average = std::uint64_t{1} << 40;
    EXPECT_EQ(refusal(huge), Code::unsupported_configuration);
    auto nothing = request(InterfaceType::bridge);
    nothing.interface.bandwidth.emplace().inbound.emplace();
    EXPECT_EQ(refusal(nothing), Code::invalid_xml);
}

TEST_F(Limits, WhatAGuestSendsIsLimitedAndNothingStays) {
    auto wanted = request(InterfaceType::bridge);
    wanted.vnet_header = false;
    auto& limit = wanted.interface.bandwidth.emplace().outbound.emplace();
    limit.average = 125;  // KiB a second
    limit.burst = 256;
    const auto link = open(wanted);
    const auto device = fmt::format("vifb{}", ::if_nametoindex(link.ifname.c_str()));
    send_frames(link.fds[0], "52:54:00:99:99:99", many);
    if (has_policing()) {
        const auto filters = output_of("tc -s filter show dev " + link.ifname + " parent ffff:");
        EXPECT_NE(filters.find("rate 1024Kbit burst 256Kb"), std::string::npos) << filters;
        EXPECT_GT(number_after(filters, "dropped "), 0u) << filters;
    } else {
        const auto one = class_of(device, "1:1");
        EXPECT_NE(one.find("rate 1024Kbit ceil 1024Kbit burst 256Kb"), std::string::npos) << one;
        EXPECT_GT(number_after(one, "dropped "), 0u) << one;
        EXPECT_LT(number_after(one, " bytes "), std::uint64_t{many}) << one;
    }
    close(link);
    EXPECT_FALSE(is_there(link.ifname));
    EXPECT_FALSE(is_there(device));
}

TEST_F(Limits, WhatAGuestReceivesIsReallyLimited) {
    auto wanted = request(InterfaceType::ethernet);
    wanted.interface.bandwidth.emplace().inbound = average(50);
    const auto link = open(wanted);
    send_datagrams(link.ifname, "52:54:00:01:02:03", many);
    const auto one = class_of(link.ifname, "1:1");
    EXPECT_GT(number_after(one, "dropped "), 0u) << one;
    EXPECT_GT(number_after(one, "Sent "), 0u) << one;
    close(link);
}

/// A bridge with a guest that reads nothing.
struct NetworkLimits : Limits {
    void SetUp() override {
        Limits::SetUp();
        if (!entered) return;
        ASSERT_EQ(std::system("ip link add net0 type bridge && ip link set net0 up"), 0);
        index = static_cast<int>(::if_nametoindex("net0"));
        auto wanted = request(InterfaceType::bridge);
        wanted.interface.source->bridge = "net0";
        wanted.vnet_header = false;
        link = open(wanted);
    }
    void TearDown() override {
        if (!entered) return;
        close(link);
        network::clear_bridge(index, "net0");
        (void)std::system("ip link del net0");
    }

    int index = 0;
    Link link;
};

TEST_F(NetworkLimits, FloorsAreKeptForGuestsWithinTheNetworksLimit) {
    Bandwidth bandwidth;
    bandwidth.inbound = average(1000);
    bandwidth.inbound->peak = 2000;
    bandwidth.inbound->burst = 512;
    network::limit_bridge(index, "net0", bandwidth);
    EXPECT_NE(class_of("net0", "1:1").find("root rate 8192Kbit ceil 16384Kbit burst 512Kb"), std::string::npos)
        << class_of("net0", "1:1");
    EXPECT_NE(class_of("net0", "1:2").find("parent 1:1"), std::string::npos);
    EXPECT_NE(class_of("net0", "1:2").find("rate 8192Kbit"), std::string::npos);
    BandwidthLimit floor;
    floor.floor = 300;
    network::set_class(index, "net0", bandwidth, {3, "52:54:00:01:02:03", floor});
    network::set_class(index, "net0", bandwidth, {4, "52:54:00:01:02:04", floor});
    EXPECT_NE(class_of("net0", "1:3").find("rate 2457Kbit ceil 16384Kbit"), std::string::npos)
        << class_of("net0", "1:3");
    EXPECT_NE(class_of("net0", "1:2").find("rate 3276Kbit"), std::string::npos) << "the floors are not the others'";
    EXPECT_NE(output_of("tc filter show dev net0").find("flowid 1:3"), std::string::npos);

    // Another limit does not take the guests' classes away.
    bandwidth.inbound->average = 2000;
    network::limit_bridge(index, "net0", bandwidth);
    EXPECT_NE(class_of("net0", "1:2").find("rate 11468Kbit"), std::string::npos) << class_of("net0", "1:2");
    floor.floor = 500;
    network::set_class(index, "net0", bandwidth, {3, "52:54:00:01:02:03", floor});
    EXPECT_NE(class_of("net0", "1:3").find("rate 4096Kbit"), std::string::npos) << class_of("net0", "1:3");

    network::remove_class(index, "net0", 3);
    EXPECT_EQ(class_of("net0", "1:3"), "");
    EXPECT_EQ(output_of("tc filter show dev net0").find("flowid 1:3"), std::string::npos);
    EXPECT_NE(output_of("tc filter show dev net0").find("flowid 1:4"), std::string::npos);
    EXPECT_NE(class_of("net0", "1:2").find("rate 13926Kbit"), std::string::npos) << class_of("net0", "1:2");
    network::remove_class(index, "net0", 3);

    network::limit_bridge(index, "net0", {});
    EXPECT_EQ(output_of("tc class show dev net0"), "");
    network::limit_bridge(index, "net0", {});
    network::remove_class(index, "net0", 4);
}

TEST_F(NetworkLimits, TrafficTakesItsGuestsClass) {
    Bandwidth bandwidth;
    bandwidth.inbound = average(100);
    network::limit_bridge(index, "net0", bandwidth);
    BandwidthLimit floor;
    floor.floor = 20;
    network::set_class(index, "net0", bandwidth, {5, "52:54:00:01:02:03", floor});
    send_datagrams("net0", "52:54:00:01:02:03", many);
    const auto kept = class_of("net0", "1:5");
    EXPECT_GT(number_after(kept, "Sent "), 0u) << kept;
    EXPECT_GT(number_after(kept, "dropped "), 0u) << kept;
    const auto before = number_after(class_of("net0", "1:2"), "Sent ");
    send_datagrams("net0", "52:54:00:01:02:04", 10);
    const auto rest = class_of("net0", "1:2");
    EXPECT_GT(number_after(rest, "Sent ") + number_after(rest, "backlog "), before) << rest;
}

TEST_F(NetworkLimits, WhatAllSendIntoTheNetworkIsLimited) {
    Bandwidth bandwidth;
    bandwidth.outbound = average(100);
    network::limit_bridge(index, "net0", bandwidth);
    const auto device = fmt::format("vifb{}", index);
    EXPECT_EQ(is_there(device), !has_policing());
    const auto mac = output_of("cat /sys/class/net/net0/address");
    send_frames(link.fds[0], mac.substr(0, 17), many);
    const auto seen = has_policing() ? output_of("tc -s filter show dev net0 parent ffff:") : class_of(device, "1:1");
    EXPECT_GT(number_after(seen, "dropped "), 0u) << seen;
    bandwidth.outbound->average = 200;
    network::limit_bridge(index, "net0", bandwidth);
    const auto again = has_policing() ? output_of("tc filter show dev net0 parent ffff:") : class_of(device, "1:1");
    EXPECT_NE(again.find("rate 1638Kbit"), std::string::npos) << again;
    network::limit_bridge(index, "net0", {});
    EXPECT_FALSE(is_there(device));
    EXPECT_EQ(output_of("tc qdisc show dev net0 ingress"), "");
    network::clear_bridge(index, "net0");
}

TEST_F(NetworkLimits, WhatMakesNoSenseIsRefused) {
    Bandwidth bandwidth;
    BandwidthLimit floor;
    floor.floor = 20;
    EXPECT_THROW(network::set_class(index, "net0", bandwidth, {3, "52:54:00:01:02:03", floor}), Error);
    bandwidth.inbound.emplace();
    EXPECT_THROW(network::limit_bridge(index, "net0", bandwidth), Error);
    bandwidth.inbound = average(100);
    network::limit_bridge(index, "net0", bandwidth);
    EXPECT_THROW(network::set_class(index, "net0", bandwidth, {2, "52:54:00:01:02:03", floor}), Error);
    EXPECT_THROW(network::set_class(index, "net0", bandwidth, {3, "what", floor}), Error);
    EXPECT_EQ(class_of("net0", "1:3"), "");
}

}  // namespace
