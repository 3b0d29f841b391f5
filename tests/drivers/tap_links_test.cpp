// SPDX-License-Identifier: LGPL-2.1-or-later
// Links of domains, in a network namespace of their own.
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>

#include <cstdio>
#include <cstdlib>

#include "network/links.hpp"
#include "service/host/workers.hpp"
#include "tests/support/run.hpp"

using namespace virtbus;
using namespace std::chrono_literals;
using virtbus::testing::run;

namespace {

/// The namespace must be entered before the worker threads start, as each thread has its own.
bool enter_namespace() {
    static const bool entered =
        ::unshare(CLONE_NEWNET) == 0 &&
        std::system("ip link set lo up && ip link add br0 type bridge && ip link set br0 up") == 0;
    return entered;
}

struct TapLinksTest : ::testing::Test {
    void SetUp() override {
        if (!entered) GTEST_SKIP() << "a network namespace needs root";
    }
    LinkRequest request(InterfaceType type) {
        LinkRequest wanted;
        wanted.domain_name = "web";
        wanted.interface.type = type;
        wanted.interface.mac = "52:54:00:01:02:03";
        wanted.interface.source.emplace();
        if (type == InterfaceType::bridge) wanted.interface.source->bridge = "br0";
        return wanted;
    }
    Link open(LinkRequest wanted) { return run(loop, links.open_link(std::move(wanted), in(1min), {})); }
    Code refusal(LinkRequest wanted) {
        try {
            open(std::move(wanted));
        } catch (const Error& error) {
            EXPECT_NE(std::string{error.what()}.find("web"), std::string::npos) << error.what();
            return error.code();
        }
        return Code::internal;
    }

    bool entered = enter_namespace();
    host::MainLoop loop;
    host::ThreadPool workers{loop, 2};
    network::TapLinks links{workers};
};

std::string output_of(const std::string& command) {
    std::string out;
    FILE* pipe = ::popen(command.c_str(), "r");
    for (int c; pipe && (c = std::fgetc(pipe)) != EOF;) out += static_cast<char>(c);
    if (pipe) ::pclose(pipe);
    return out;
}

TEST_F(TapLinksTest, WhatAGuestReceivesIsLimited) {
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
    run(loop, links.close_link(link.undo_key));
}

TEST_F(TapLinksTest, LimitsThatAreNotKeptAreRefused) {
    auto sends = request(InterfaceType::bridge);
    sends.interface.bandwidth.emplace().outbound.emplace().average = 100;
    EXPECT_EQ(refusal(sends), Code::unsupported);
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

TEST_F(TapLinksTest, ABridgeLinkIsMadeAndTakenDown) {
    auto link = open(request(InterfaceType::bridge));
    EXPECT_EQ(link.fds.size(), 1u);
    EXPECT_NE(::if_nametoindex(link.ifname.c_str()), 0u);
    EXPECT_EQ(std::system(("ip -o link show " + link.ifname + " | grep -q 'master br0'").c_str()), 0);
    run(loop, links.close_link(link.undo_key));
    EXPECT_EQ(::if_nametoindex(link.ifname.c_str()), 0u);
    run(loop, links.close_link(link.undo_key));
}

TEST_F(TapLinksTest, AnEthernetLinkTakesTheNameAskedForButNotAGeneratedOne) {
    auto wanted = request(InterfaceType::ethernet);
    wanted.interface.target.emplace();
    wanted.interface.target->dev = "mytap";
    auto link = open(wanted);
    EXPECT_EQ(link.ifname, "mytap");
    EXPECT_EQ(refusal(wanted), Code::device_in_use) << "the name is taken";
    run(loop, links.close_link(link.undo_key));
    wanted.interface.target->dev = "vnet77";
    link = open(wanted);
    EXPECT_NE(link.ifname, "vnet77");
    run(loop, links.close_link(link.undo_key));
}

TEST_F(TapLinksTest, ADeviceOfSomebodyElseIsUsedAndLeftAlone) {
    ASSERT_EQ(std::system("ip tuntap add dev theirs mode tap vnet_hdr"), 0);
    auto wanted = request(InterfaceType::ethernet);
    wanted.interface.target.emplace();
    wanted.interface.target->dev = "theirs";
    wanted.interface.target->managed = false;
    auto link = open(wanted);
    EXPECT_EQ(link.ifname, "theirs");
    run(loop, links.close_link(link.undo_key));
    EXPECT_NE(::if_nametoindex("theirs"), 0u);
}

TEST_F(TapLinksTest, WhatIsNotDoneIsRefusedAndLeavesNothing) {
    EXPECT_EQ(refusal(request(InterfaceType::network)), Code::unsupported);
    EXPECT_EQ(refusal(request(InterfaceType::direct)), Code::unsupported);
    auto filtered = request(InterfaceType::bridge);
    filtered.interface.filterref.emplace();
    filtered.interface.filterref->filter = "clean-traffic";
    EXPECT_EQ(refusal(filtered), Code::unsupported);
    auto nameless = request(InterfaceType::bridge);
    nameless.interface.source->bridge.clear();
    EXPECT_EQ(refusal(nameless), Code::invalid_xml);
    auto scripted = request(InterfaceType::ethernet);
    scripted.interface.script = "/etc/qemu-ifup";
    EXPECT_EQ(refusal(scripted), Code::unsupported);
    EXPECT_EQ(std::system("test -z \"$(ip -o link show type tun | grep -v theirs)\""), 0);
}

TEST_F(TapLinksTest, AKeyThatIsNoneIsRefused) {
    EXPECT_THROW(run(loop, links.close_link("tap:x")), Error);
    EXPECT_THROW(run(loop, links.close_link("")), Error);
}

}  // namespace
