// SPDX-License-Identifier: LGPL-2.1-or-later
// Links of type direct: macvtap devices on a device of the host.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <array>
#include <cstring>
#include <fstream>

#include "network/macvtap.hpp"
#include "tests/drivers/link_bed.hpp"

using namespace virtbus;
using virtbus::tests::is_there;
using virtbus::tests::output_of;
using MacvtapLinks = virtbus::tests::LinkBed;

namespace {

std::string details_of(const std::string& device) {
    return output_of("ip -d link show " + device);
}

unsigned flags_of(const Fd& fd) {
    struct ifreq request{};
    EXPECT_EQ(::ioctl(fd.get(), TUNGETIFF, &request), 0);
    return static_cast<unsigned short>(request.ifr_flags);
}

TEST_F(MacvtapLinks, EachModeGivesTheGuestsAddressToADeviceOfItsOwn) {
    for (const auto& [mode, kernels] :
         {std::pair{"", "mode vepa"}, {"vepa", "mode vepa"}, {"bridge", "mode bridge"}, {"private", "mode private"}}) {
        auto wanted = request(InterfaceType::direct);
        wanted.interface.source->mode = mode;
        const auto link = open(wanted);
        EXPECT_EQ(link.ifname, "macvtap0");
        ASSERT_EQ(link.fds.size(), 1u);
        const auto now = details_of(link.ifname);
        EXPECT_NE(now.find(kernels), now.npos) << now;
        EXPECT_NE(now.find("macvtap0@card0"), now.npos) << now;
        EXPECT_NE(now.find("link/ether 52:54:00:01:02:03"), now.npos) << now;
        EXPECT_NE(now.find("LOWER_UP"), now.npos) << now;
        EXPECT_TRUE(flags_of(link.fds[0]) & IFF_VNET_HDR);
        // It is this device's, whatever else is called /dev/tapN.
        struct stat facts{};
        ASSERT_EQ(::fstat(link.fds[0].get(), &facts), 0);
        unsigned major = 0, minor = 0;
        char colon = 0;
        std::ifstream{fmt::format("/sys/class/net/macvtap0/tap{}/dev", ::if_nametoindex("macvtap0"))} >> major >>
            colon >> minor;
        EXPECT_EQ(facts.st_rdev, makedev(major, minor));
        close(link);
        EXPECT_FALSE(is_there("macvtap0"));
        close(link);
    }
}

TEST_F(MacvtapLinks, QueuesNamesAndTheMtuAreThoseOfTheDefinition) {
    auto wanted = request(InterfaceType::direct);
    wanted.interface.source->mode = "bridge";
    wanted.interface.target.emplace().dev = "mine0";
    wanted.interface.mtu = 1300;
    wanted.interface.link_state = "down";
    wanted.queues = 3;
    wanted.vnet_header = false;
    const auto link = open(wanted);
    EXPECT_EQ(link.ifname, "mine0");
    ASSERT_EQ(link.fds.size(), 3u);
    for (const auto& fd : link.fds) {
        EXPECT_FALSE(flags_of(fd) & IFF_VNET_HDR);
        EXPECT_TRUE(flags_of(fd) & IFF_MULTI_QUEUE);
    }
    const auto now = details_of("mine0");
    EXPECT_NE(now.find("mtu 1300"), now.npos) << now;
    EXPECT_NE(now.find("LOWER_UP"), now.npos) << "a link that is down is so at the guest's side, and can come up";
    EXPECT_EQ(refusal(wanted), Code::device_in_use) << words;
    EXPECT_NE(words.find("mine0"), words.npos) << words;
    close(link);
}

TEST_F(MacvtapLinks, TwoGuestsHaveOneCardWithDevicesOfTheirOwn) {
    auto wanted = request(InterfaceType::direct);
    wanted.interface.source->mode = "bridge";
    wanted.interface.target.emplace().dev = "macvtap0";  // of an earlier run
    const auto first = open(wanted);
    wanted.interface.mac = "52:54:00:01:02:04";
    const auto second = open(wanted);
    EXPECT_NE(first.ifname, second.ifname);
    // What one sends comes to the other.
    std::array<char, 10 + 60> sent{}, seen{};
    const auto to = network::parse_mac("52:54:00:01:02:04"), from = network::parse_mac("52:54:00:01:02:03");
    std::memcpy(sent.data() + 10, to.data(), to.size());
    std::memcpy(sent.data() + 16, from.data(), from.size());
    sent[22] = '\x88';
    sent[23] = '\xb5';
    const int header = 10;
    ASSERT_EQ(::ioctl(first.fds[0].get(), TUNSETVNETHDRSZ, &header), 0);
    ASSERT_EQ(::ioctl(second.fds[0].get(), TUNSETVNETHDRSZ, &header), 0);
    ASSERT_EQ(::write(first.fds[0].get(), sent.data(), sent.size()), static_cast<ssize_t>(sent.size()));
    ASSERT_EQ(::read(second.fds[0].get(), seen.data(), seen.size()), static_cast<ssize_t>(seen.size()));
    EXPECT_EQ(std::memcmp(sent.data() + 10, seen.data() + 10, 60), 0);
    close(first);
    EXPECT_TRUE(is_there(second.ifname));
    close(second);
}

TEST_F(MacvtapLinks, PassthroughHasTheCardAloneAndGivesItsAddressBack) {
    const auto before = output_of("cat /sys/class/net/card0/address");
    auto wanted = request(InterfaceType::direct);
    wanted.interface.source->mode = "passthrough";
    const auto link = open(wanted);
    EXPECT_NE(details_of(link.ifname).find("mode passthru"), std::string::npos) << details_of(link.ifname);
    EXPECT_EQ(output_of("cat /sys/class/net/card0/address"), "52:54:00:01:02:03\n");
    auto other = wanted;
    other.interface.mac = "52:54:00:01:02:04";
    EXPECT_EQ(refusal(other), Code::device_in_use) << words;
    EXPECT_NE(words.find("card0"), words.npos) << words;
    other.interface.source->mode = "bridge";
    EXPECT_EQ(refusal(other), Code::device_in_use) << words;
    EXPECT_EQ(output_of("cat /sys/class/net/card0/address"), "52:54:00:01:02:03\n") << "the other has changed nothing";
    close(link);
    EXPECT_EQ(output_of("cat /sys/class/net/card0/address"), before);
    // A daemon of later: the device has gone, the address has stayed.
    ASSERT_EQ(std::system("ip link set card0 address 52:54:00:01:02:03"), 0);
    close(link);
    EXPECT_EQ(output_of("cat /sys/class/net/card0/address"), before);
}

TEST_F(MacvtapLinks, LimitsAreThoseOfTheGuestsSide) {
    auto wanted = request(InterfaceType::direct);
    wanted.interface.source->mode = "bridge";
    wanted.interface.bandwidth.emplace().outbound.emplace().average = 1000;
    auto link = open(wanted);
    EXPECT_NE(output_of("tc class show dev " + link.ifname).find("rate 8192Kbit"), std::string::npos);
    close(link);
    wanted.interface.bandwidth->outbound.reset();
    wanted.interface.bandwidth->inbound.emplace().average = 1000;
    link = open(wanted);
    EXPECT_EQ(output_of("tc class show dev " + link.ifname), "");
    EXPECT_NE(output_of("tc qdisc show dev " + link.ifname).find("ingress"), std::string::npos);
    close(link);
    EXPECT_EQ(output_of("ip -br link show type ifb"), "");
}

TEST_F(MacvtapLinks, WhatCannotBeIsRefusedAndLeavesNothing) {
    auto wanted = request(InterfaceType::direct);
    wanted.interface.source->dev = "nocard0";
    EXPECT_EQ(refusal(wanted), Code::unsupported_configuration) << words;
    EXPECT_NE(words.find("nocard0"), words.npos) << words;
    wanted = request(InterfaceType::direct);
    wanted.interface.source->mode = "what";
    EXPECT_EQ(refusal(wanted), Code::invalid_xml) << words;
    wanted = request(InterfaceType::direct);
    wanted.interface.vlan.emplace().tags.emplace_back().id = 5;
    EXPECT_EQ(refusal(wanted), Code::unsupported) << words;
    EXPECT_NE(words.find("VLAN"), words.npos) << words;
    wanted = request(InterfaceType::direct);
    wanted.interface.virtual_port.emplace().type = "802.1Qbh";
    EXPECT_EQ(refusal(wanted), Code::unsupported) << words;
    wanted = request(InterfaceType::direct);
    for (const char* bad : {"sixteen-bytes-xx", "some%d"}) {
        wanted.interface.target.emplace().dev = bad;
        EXPECT_EQ(refusal(wanted), Code::invalid_xml) << words;
    }
    ASSERT_EQ(std::system("ip link add port0 type veth peer name port1 && ip link set port0 master br0"), 0);
    wanted = request(InterfaceType::direct);
    wanted.interface.source->dev = "port0";
    EXPECT_EQ(refusal(wanted), Code::device_in_use) << words;
    ASSERT_EQ(std::system("ip link del port0"), 0);
    EXPECT_EQ(output_of("ip -br link show type macvtap"), "");
}

TEST_F(MacvtapLinks, WithoutANodeOfTheHostsItMakesOneWhereItMay) {
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(::mount("tmpfs", "/mnt", "tmpfs", 0, nullptr), 0);
    const auto made = network::make_macvtap(
        {.name = "own0", .lower = "card0", .mode = "bridge", .mac = network::parse_mac("52:54:00:01:02:09")});
    ASSERT_EQ(::mount("/mnt", "/dev", nullptr, MS_BIND, nullptr), 0);
    EXPECT_TRUE(network::open_macvtap_queue(made.tap.index, "own0", 1, true));
    EXPECT_EQ(output_of("ls -A /dev"), "") << "nothing of it stays";
    ASSERT_EQ(::umount("/dev"), 0);
    ASSERT_EQ(::umount("/mnt"), 0);
    network::remove_tap("own0", made.tap.index);
}

}  // namespace
