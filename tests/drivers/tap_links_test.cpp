// SPDX-License-Identifier: LGPL-2.1-or-later
// Links of domains, in a network namespace of their own.
#include <gtest/gtest.h>
#include <linux/ethtool.h>
#include <linux/pkt_cls.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "network/links.hpp"
#include "network/shaping.hpp"
#include "network/virtual_function.hpp"
#include "service/host/loop.hpp"
#include "service/host/workers.hpp"
#include "tests/support/run.hpp"

using namespace virtbus;
using namespace std::chrono_literals;
using virtbus::tests::run;

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

/// Not every kernel has the modules.
bool has_policing() {
    static const bool has =
        std::system(
            "(ip tuntap add dev probe0 mode tap && tc qdisc add dev probe0 ingress && tc filter add dev probe0 "
            "parent ffff: protocol all u32 match u32 0 0 police rate 1mbit burst 128kb drop) >/dev/null 2>&1") == 0;
    (void)std::system("ip link del probe0 >/dev/null 2>&1");
    return has;
}

TEST_F(TapLinksTest, WhatAGuestSendsIsLimitedWhereTheKernelCan) {
    auto wanted = request(InterfaceType::bridge);
    auto& limit = wanted.interface.bandwidth.emplace().outbound.emplace();
    limit.average = 1000;  // KiB a second
    limit.burst = 1024;
    if (!has_policing()) {
        wanted.interface.target.emplace().dev = "limited0";
        EXPECT_EQ(refusal(wanted), Code::unsupported_configuration);
        EXPECT_EQ(::if_nametoindex("limited0"), 0u) << "a link without its limit stays";
        GTEST_SKIP() << "this kernel has no traffic policing";
    }
    const auto link = open(wanted);
    const auto filters = output_of("tc filter show dev " + link.ifname + " parent ffff:");
    EXPECT_NE(filters.find("rate 8192Kbit burst 1Mb"), std::string::npos) << filters;
    EXPECT_NE(filters.find("action drop"), std::string::npos) << filters;
    run(loop, links.close_link(link.undo_key));
}

TEST_F(TapLinksTest, ThePoliceIsTold) {
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

TEST_F(TapLinksTest, FramesAreGathered) {
    auto wanted = request(InterfaceType::bridge);
    wanted.interface.coalesce_rx_frames_max = 32;
    const auto link = open(wanted);
    struct ethtool_coalesce settings{};
    struct ifreq asked{};
    settings.cmd = ETHTOOL_GCOALESCE;
    std::snprintf(asked.ifr_name, sizeof asked.ifr_name, "%s", link.ifname.c_str());
    asked.ifr_data = reinterpret_cast<char*>(&settings);
    const Fd socket{::socket(AF_INET, SOCK_DGRAM, 0)};
    ASSERT_EQ(::ioctl(socket.get(), SIOCETHTOOL, &asked), 0);
    EXPECT_EQ(settings.rx_max_coalesced_frames, 32u);
    run(loop, links.close_link(link.undo_key));
    wanted.interface.coalesce_rx_frames_max = 65;
    EXPECT_EQ(refusal(wanted), Code::unsupported_configuration);
}

TEST_F(TapLinksTest, AVirtualFunctionIsFoundBelowItsCard) {
    const virtbus::tests::TemporaryFolder folder;
    const auto devices = folder.path() + "/sys/bus/pci/devices/";
    for (const auto* each : {"0000:03:00.0/net/ens3", "0000:03:10.0", "0000:03:10.1", "0000:04:00.0"})
        std::filesystem::create_directories(devices + each);
    for (const auto& [function, name] : {std::pair{"0000:03:10.0", "virtfn0"}, {"0000:03:10.1", "virtfn1"}}) {
        std::filesystem::create_directory_symlink(devices + "0000:03:00.0", devices + function + "/physfn");
        std::filesystem::create_directory_symlink(devices + function, devices + "0000:03:00.0/" + name);
    }
    EXPECT_EQ(network::find_virtual_function(folder.path(), "0000:03:10.1"), (network::VirtualFunction{"ens3", 1}));
    EXPECT_EQ(network::find_virtual_function(folder.path(), "0000:04:00.0"), std::nullopt);
    network::TapLinks there{workers, folder.path()};
    auto wanted = request(InterfaceType::hostdev);
    wanted.interface.source->host_address = HostPciAddress{.domain = 0, .bus = 4};
    try {
        run(loop, there.open_link(wanted, in(1min), {}));
        ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
        EXPECT_NE(std::string{error.what()}.find("no virtual function"), std::string::npos) << error.what();
    }
    wanted.interface.source->host_address = HostPciAddress{.domain = 0, .bus = 3, .slot = 16};
    try {
        run(loop, there.open_link(wanted, in(1min), {}));
        ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
        EXPECT_NE(std::string{error.what()}.find("'ens3'"), std::string::npos) << error.what();
    }
}

TEST_F(TapLinksTest, LimitsThatAreNotKeptAreRefused) {
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
