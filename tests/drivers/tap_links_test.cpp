// SPDX-License-Identifier: LGPL-2.1-or-later
// Links of domains, in a network namespace of their own.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <filesystem>

#include "network/link_key.hpp"
#include "network/virtual_function.hpp"
#include "tests/drivers/link_bed.hpp"

using namespace virtbus;
using namespace std::chrono_literals;
using virtbus::tests::is_there;
using virtbus::tests::output_of;
using virtbus::tests::run;
using TapLinks = virtbus::tests::LinkBed;

namespace {

TEST_F(TapLinks, FramesAreGathered) {
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

TEST_F(TapLinks, AVirtualFunctionIsFoundBelowItsCard) {
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
    network::TapLinks there{workers, nullptr, {.root = folder.path()}};
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

TEST_F(TapLinks, ABridgeLinkIsMadeAndTakenDown) {
    auto link = open(request(InterfaceType::bridge));
    EXPECT_EQ(link.fds.size(), 1u);
    EXPECT_NE(::if_nametoindex(link.ifname.c_str()), 0u);
    EXPECT_EQ(std::system(("ip -o link show " + link.ifname + " | grep -q 'master br0'").c_str()), 0);
    run(loop, links.close_link(link.undo_key));
    EXPECT_EQ(::if_nametoindex(link.ifname.c_str()), 0u);
    run(loop, links.close_link(link.undo_key));
}

TEST_F(TapLinks, AnEthernetLinkTakesTheNameAskedForButNotAGeneratedOne) {
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

TEST_F(TapLinks, ADeviceOfSomebodyElseIsUsedAndLeftAlone) {
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

TEST_F(TapLinks, WhatIsNotDoneIsRefusedAndLeavesNothing) {
    EXPECT_EQ(refusal(request(InterfaceType::vds)), Code::unsupported);
    EXPECT_EQ(refusal(request(InterfaceType::network)), Code::invalid_xml) << "nobody has said which bridge it is";
    auto filtered = request(InterfaceType::bridge);
    filtered.interface.filterref.emplace();
    filtered.interface.filterref->filter = "clean-traffic";
    EXPECT_EQ(refusal(filtered), Code::unsupported) << "nobody has said what the filter is";
    auto nameless = request(InterfaceType::bridge);
    nameless.interface.source->bridge.clear();
    EXPECT_EQ(refusal(nameless), Code::invalid_xml);
    auto scripted = request(InterfaceType::ethernet);
    scripted.interface.script = "/etc/qemu-ifup";
    EXPECT_EQ(refusal(scripted), Code::unsupported);
    EXPECT_EQ(std::system("test -z \"$(ip -o link show type tun | grep -v theirs)\""), 0);
}

TEST_F(TapLinks, AKeyThatIsNoneIsRefused) {
    for (const char* bad :
         {"tap:x", "", "tap:1", "tap:1:", "tap:0:a", "ovs:1:a", "macvtap-pt:1:a:b", "vf:1:2:x", "what:1:a"})
        EXPECT_THROW(run(loop, links.close_link(bad)), Error) << bad;
}

TEST_F(TapLinks, KeysOfRunningGuestsAreUnderstood) {
    using network::LinkKey;
    EXPECT_EQ(LinkKey::parse("foreign").kind, LinkKey::Kind::foreign);
    const auto tap = LinkKey::parse("tap:17:vnet3");
    EXPECT_EQ(tap.index, 17);
    EXPECT_EQ(tap.name, "vnet3");
    const auto function = LinkKey::parse("vf:3:42:52:54:00:aa:bb:cc:ens3f0");
    EXPECT_EQ(function.number, 3u);
    EXPECT_EQ(function.vlan, 42u);
    EXPECT_EQ(function.mac, network::parse_mac("52:54:00:aa:bb:cc"));
    EXPECT_EQ(function.beside, "ens3f0");
    for (const char* text : {"foreign", "tap:17:vnet3", "vf:3:42:52:54:00:aa:bb:cc:ens3f0", "ovs:5:vnet0:ovsbr0",
                             "macvtap:6:macvtap0", "macvtap-pt:6:macvtap0:eth0:52:54:00:aa:bb:cc"})
        EXPECT_EQ(LinkKey::parse(text).text(), text);
}

std::string details_of(const Link& link) {
    return output_of("ip -d link show " + link.ifname);
}

TEST_F(TapLinks, ALinkIsPutOnTheBridgeThatItsNetworkMadeAnew) {
    ASSERT_EQ(std::system("ip link add lan0 type bridge && ip link set lan0 mtu 1400 up"), 0);
    auto wanted = request(InterfaceType::bridge);
    wanted.interface.source->bridge = "lan0";
    wanted.interface.port_isolated = true;
    const auto link = open(wanted);
    EXPECT_NE(details_of(link).find("isolated on"), std::string::npos) << details_of(link);
    ASSERT_EQ(std::system("ip link del lan0 && ip link add lan0 type bridge && ip link set lan0 mtu 1300 up"), 0);
    EXPECT_EQ(details_of(link).find("master"), std::string::npos);
    reconnect(link, wanted);
    auto now = details_of(link);
    EXPECT_NE(now.find("master lan0"), std::string::npos) << now;
    EXPECT_NE(now.find("mtu 1300"), std::string::npos) << now;
    EXPECT_NE(now.find("isolated on"), std::string::npos) << now;
    EXPECT_NE(now.find("LOWER_UP"), std::string::npos) << now;
    wanted.interface.source->bridge = "br0";
    wanted.interface.port_isolated = false;
    wanted.interface.bandwidth.emplace().inbound.emplace().average = 1000;
    reconnect(link, wanted);
    now = details_of(link);
    EXPECT_NE(now.find("master br0"), std::string::npos) << now;
    EXPECT_NE(now.find("isolated off"), std::string::npos) << now;
    EXPECT_NE(output_of("tc class show dev " + link.ifname).find("rate 8192Kbit"), std::string::npos);
    close(link);
    reconnect(link, wanted);
    EXPECT_FALSE(is_there(link.ifname)) << "a link that has gone is no error, and does not come back";
    ASSERT_EQ(std::system("ip link del lan0"), 0);
}

TEST_F(TapLinks, ALinkMovesToAnotherBridgeWithItsLimits) {
    ASSERT_EQ(std::system("ip link add lan1 type bridge && ip link set lan1 up"), 0);
    auto wanted = request(InterfaceType::bridge);
    wanted.interface.link_state = "down";
    wanted.interface.bandwidth.emplace().inbound.emplace().average = 1000;
    wanted.interface.bandwidth->outbound.emplace().average = 1000;
    const auto link = open(wanted);
    EXPECT_NE(details_of(link).find("LOWER_UP"), std::string::npos) << "the state is the guest's side of it";
    wanted.interface.source->bridge = "lan1";
    wanted.interface.bandwidth.reset();
    const auto moved = run(loop, links.move_link(link.undo_key, wanted, in(1min)));
    EXPECT_EQ(moved.undo_key, link.undo_key);
    EXPECT_NE(details_of(link).find("master lan1"), std::string::npos) << details_of(link);
    EXPECT_EQ(output_of("tc class show dev " + link.ifname), "");
    EXPECT_EQ(output_of("ip -br link show type ifb"), "");
    auto elsewhere = request(InterfaceType::direct);
    EXPECT_THROW(run(loop, links.move_link(link.undo_key, elsewhere, in(1min))), Error);
    EXPECT_NE(details_of(link).find("master lan1"), std::string::npos);
    close(link);
    ASSERT_EQ(std::system("ip link del lan1"), 0);
}

TEST_F(TapLinks, ABridgeThatIsGoneIsNamedWhenALinkComesBack) {
    auto wanted = request(InterfaceType::bridge);
    const auto link = open(wanted);
    wanted.interface.source->bridge = "gone0";
    try {
        reconnect(link, wanted);
        ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
        EXPECT_NE(std::string{error.what()}.find("gone0"), std::string::npos) << error.what();
    }
    EXPECT_TRUE(is_there(link.ifname));
    close(link);
}

TEST_F(TapLinks, AVirtualPortWithoutATypeIsNothingToALinuxBridge) {
    auto wanted = request(InterfaceType::bridge);
    wanted.interface.virtual_port.emplace().interface_id = "09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f";
    const auto link = open(wanted);
    EXPECT_NE(details_of(link).find("master br0"), std::string::npos);
    close(link);
    wanted.interface.virtual_port->type = "802.1Qbg";
    EXPECT_EQ(refusal(wanted), Code::unsupported);
    EXPECT_NE(words.find("802.1Qbg"), std::string::npos) << words;
}

TEST_F(TapLinks, TheFunctionsOfACardAreListedByTheirNumbers) {
    const virtbus::tests::TemporaryFolder folder;
    const auto card = folder.path() + "/sys/class/net/ens3/device";
    std::filesystem::create_directories(card);
    for (const auto& [name, address] :
         {std::pair{"virtfn10", "0000:03:11.2"}, {"virtfn2", "0000:03:10.2"}, {"virtfn0", "0000:03:10.0"}}) {
        std::filesystem::create_directories(folder.path() + "/sys/bus/pci/devices/" + address);
        std::filesystem::create_directory_symlink(folder.path() + "/sys/bus/pci/devices/" + address, card + "/" + name);
    }
    std::filesystem::create_directories(folder.path() + "/sys/bus/pci/devices/0000:03:10.2/net/ens3f2");
    const auto functions = network::functions_of(folder.path(), "ens3");
    ASSERT_EQ(functions.size(), 3u);
    EXPECT_EQ(functions[0].address, (HostPciAddress{.domain = 0, .bus = 3, .slot = 16, .function = 0}));
    EXPECT_EQ(functions[1].address, (HostPciAddress{.domain = 0, .bus = 3, .slot = 16, .function = 2}));
    EXPECT_EQ(functions[2].address, (HostPciAddress{.domain = 0, .bus = 3, .slot = 17, .function = 2}));
    EXPECT_EQ(functions[0].device, "");
    EXPECT_EQ(functions[1].device, "ens3f2");
    std::filesystem::create_directories(folder.path() + "/sys/class/net/plain/device");
    EXPECT_TRUE(network::functions_of(folder.path(), "plain").empty());
    for (const char* bad : {"missing", "../net/ens3", ""})
        EXPECT_THROW(network::functions_of(folder.path(), bad), Error) << bad;
}

}  // namespace
