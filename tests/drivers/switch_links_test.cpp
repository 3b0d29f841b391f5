// SPDX-License-Identifier: LGPL-2.1-or-later
// Ports of Open vSwitch, in a database of the test's own: nobody switches, but everything is told. And VLANs of Linux
// bridges.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <netlink/attr.h>
#include <unistd.h>

#include "network/bridge_vlans.hpp"
#include "network/open_vswitch.hpp"
#include "tests/drivers/link_bed.hpp"

using namespace virtbus;
using virtbus::tests::is_there;
using virtbus::tests::output_of;
using virtbus::tests::run;

namespace {

constexpr const char* schema = "/usr/share/openvswitch/vswitch.ovsschema";

/// Its server and its program are the real ones; no switch listens to them.
struct SwitchLinks : virtbus::tests::LinkBed {
    void SetUp() override {
        LinkBed::SetUp();
        if (IsSkipped()) return;
        if (::access(schema, R_OK) != 0) GTEST_SKIP() << "Open vSwitch is not installed (openvswitch-switch)";
        ASSERT_EQ(std::system(fmt::format("cd {0} && ovsdb-tool create db {1} && ovsdb-server --detach --no-chdir "
                                          "--pidfile={0}/pid --unixctl={0}/ctl --log-file=/dev/null -vconsole:off "
                                          "--remote=punix:{0}/sock db",
                                          folder.path(), schema)
                                  .c_str()),
                  0);
        ASSERT_EQ(vsctl("init"), "");
        ASSERT_EQ(vsctl("add-br ovs0"), "");
    }
    void TearDown() override {
        if (::access((folder.path() + "/pid").c_str(), F_OK) == 0)
            (void)output_of(fmt::format("ovs-appctl -t {}/ctl exit", folder.path()));
    }
    std::string vsctl(const std::string& words) {
        auto out = output_of(fmt::format("ovs-vsctl --db=unix:{}/sock --no-wait {}", folder.path(), words));
        while (out.ends_with('\n')) out.pop_back();
        return out;
    }
    LinkRequest port() {
        auto wanted = request(InterfaceType::bridge);
        wanted.interface.source->bridge = "ovs0";
        auto& virtual_port = wanted.interface.virtual_port.emplace();
        virtual_port.type = "openvswitch";
        virtual_port.interface_id = "09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f";
        return wanted;
    }
    Link plug(LinkRequest wanted) {
        return run(loop, ovs.open_link(std::move(wanted), in(virtbus::tests::patience), {}));
    }
    void unplug(const Link& link) { run(loop, ovs.close_link(link.undo_key)); }

    const virtbus::tests::TemporaryFolder folder;
    network::TapLinks ovs{
        workers,
        &spawner,
        {.switch_program = {"/usr/bin/ovs-vsctl", "--db=unix:" + folder.path() + "/sock", "--no-wait"}}};
};

TEST_F(SwitchLinks, TheSwitchIsToldWhoseThePortIs) {
    auto wanted = port();
    wanted.interface.virtual_port->profile_id = "say \"hello\", {world}";
    const auto link = plug(wanted);
    EXPECT_TRUE(is_there(link.ifname));
    EXPECT_EQ(output_of("ip -d link show " + link.ifname).find("master"), std::string::npos);
    EXPECT_EQ(vsctl("port-to-br " + link.ifname), "ovs0");
    const auto get = [&](const char* key) {
        return vsctl(fmt::format("get Interface {} external-ids:{}", link.ifname, key));
    };
    EXPECT_EQ(get("attached-mac"), "\"52:54:00:01:02:03\"");
    EXPECT_EQ(get("iface-id"), "\"09b11c53-8b5c-4eeb-8f00-d84eaa0aaa4f\"");
    EXPECT_EQ(get("vm-id"), "\"0a1b2c3d-0000-4000-8000-000000000001\"");
    EXPECT_EQ(get("iface-status"), "active");
    EXPECT_EQ(get("port-profile"), "\"say \\\"hello\\\", {world}\"");
    unplug(link);
    EXPECT_FALSE(is_there(link.ifname));
    EXPECT_EQ(vsctl("list-ports ovs0"), "");
    unplug(link);
}

TEST_F(SwitchLinks, VlansIsolationAndPolicingAreTheSwitchs) {
    auto wanted = port();
    wanted.interface.vlan.emplace().tags.emplace_back().id = 42;
    wanted.interface.port_isolated = true;
    wanted.interface.bandwidth.emplace().outbound.emplace().average = 100;
    wanted.interface.bandwidth->outbound->burst = 50;
    wanted.interface.bandwidth->inbound.emplace().average = 1000;
    wanted.interface.mtu = 1400;
    auto link = plug(wanted);
    EXPECT_EQ(vsctl(fmt::format("get Port {} tag protected vlan_mode", link.ifname)), "42\ntrue\n[]");
    EXPECT_EQ(
        vsctl(fmt::format("get Interface {} ingress_policing_rate ingress_policing_burst mtu_request", link.ifname)),
        "800\n400\n1400");
    EXPECT_EQ(output_of("tc qdisc show dev " + link.ifname).find("ingress"), std::string::npos);
    EXPECT_NE(output_of("tc class show dev " + link.ifname).find("rate 8192Kbit"), std::string::npos);
    unplug(link);

    wanted = port();
    auto& trunk = wanted.interface.vlan.emplace();
    trunk.trunk = true;
    trunk.tags.emplace_back().id = 42;
    trunk.tags.emplace_back().id = 123;
    trunk.tags[1].native_mode = "untagged";
    trunk.tags.emplace_back().id = 7;
    link = plug(wanted);
    EXPECT_EQ(vsctl(fmt::format("get Port {} tag trunks vlan_mode", link.ifname)), "123\n[7, 42]\nnative-untagged");
    unplug(link);

    trunk.tags.resize(1);
    trunk.tags[0].native_mode = "tagged";
    link = plug(wanted);
    EXPECT_EQ(vsctl(fmt::format("get Port {} tag trunks vlan_mode", link.ifname)), "42\n[42]\nnative-tagged")
        << "without trunks it would be in every VLAN";
    unplug(link);
}

TEST_F(SwitchLinks, APortOfAnEarlierGuestIsReplacedAndALostOneComesBack) {
    ASSERT_EQ(vsctl("add-br ovs1 -- add-port ovs1 mine0 tag=9"), "");
    auto wanted = port();
    wanted.interface.target.emplace().dev = "mine0";
    const auto link = plug(wanted);
    EXPECT_EQ(vsctl("port-to-br mine0"), "ovs0");
    EXPECT_EQ(vsctl("get Port mine0 tag"), "[]");
    ASSERT_EQ(vsctl("del-port mine0"), "");
    run(loop, ovs.reconnect_link(link.undo_key, wanted, in(virtbus::tests::patience)));
    EXPECT_EQ(vsctl("port-to-br mine0"), "ovs0");
    unplug(link);
}

TEST_F(SwitchLinks, APortMovesToAnotherSwitchButNotToABridge) {
    ASSERT_EQ(vsctl("add-br ovs1"), "");
    auto wanted = port();
    const auto link = plug(wanted);
    wanted.interface.source->bridge = "ovs1";
    const auto moved = run(loop, ovs.move_link(link.undo_key, wanted, in(virtbus::tests::patience)));
    EXPECT_EQ(vsctl("port-to-br " + link.ifname), "ovs1");
    EXPECT_NE(moved.undo_key, link.undo_key);
    auto bridged = request(InterfaceType::bridge);
    EXPECT_THROW(run(loop, ovs.move_link(moved.undo_key, bridged, in(virtbus::tests::patience))), Error);
    run(loop, ovs.close_link(moved.undo_key));
    EXPECT_EQ(vsctl("list-ports ovs1"), "");
}

TEST_F(SwitchLinks, WhatTheSwitchSaysIsToldAndNothingStays) {
    auto wanted = port();
    wanted.interface.target.emplace().dev = "lost0";
    wanted.interface.source->bridge = "noovs";
    try {
        plug(wanted);
        ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
        const std::string said = error.what();
        EXPECT_NE(said.find("no bridge named noovs"), said.npos) << said;
        EXPECT_NE(said.find("web"), said.npos) << said;
    }
    EXPECT_FALSE(is_there("lost0"));
    for (const char* bad : {"-- del-br ovs0", "--help", "a b", ""}) {
        wanted.interface.source->bridge = bad;
        EXPECT_THROW(plug(wanted), Error) << bad;
    }
    EXPECT_FALSE(is_there("lost0"));
    EXPECT_EQ(vsctl("list-br"), "ovs0");
}

using Vlans = virtbus::tests::LinkBed;

Vlan tagged(std::initializer_list<std::pair<unsigned, const char*>> tags, std::optional<bool> trunk = {}) {
    Vlan vlan;
    vlan.trunk = trunk;
    for (const auto& [id, native] : tags) {
        auto& tag = vlan.tags.emplace_back();
        tag.id = id;
        tag.native_mode = native;
    }
    return vlan;
}

TEST_F(Vlans, TagsOfAPort) {
    using network::port_vlans;
    EXPECT_EQ(port_vlans(tagged({{5, ""}})), (network::PortVlans{.native = 5}));
    EXPECT_EQ(port_vlans(tagged({{5, ""}}, true)), (network::PortVlans{.tags = {5}}));
    EXPECT_EQ(port_vlans(tagged({{5, ""}, {6, ""}})), (network::PortVlans{.tags = {5, 6}}));
    EXPECT_EQ(port_vlans(tagged({{5, ""}, {6, "tagged"}})),
              (network::PortVlans{.tags = {5}, .native = 6, .native_tagged = true}));
    EXPECT_THROW(port_vlans(tagged({{0, ""}})), Error);
    EXPECT_THROW(port_vlans(tagged({{4095, ""}})), Error);
    EXPECT_THROW(port_vlans(tagged({{5, ""}, {6, ""}}, false)), Error);
    EXPECT_THROW(port_vlans(tagged({{5, "tagged"}, {6, "untagged"}})), Error);
}

TEST_F(Vlans, TheKernelIsToldOfEachTag) {
    const auto message = network::vlan_request(7, {.tags = {5, 6}, .native = 9});
    const auto* header = nlmsg_hdr(message.get());
    EXPECT_EQ(header->nlmsg_type, RTM_SETLINK);
    const auto* link = static_cast<const ifinfomsg*>(nlmsg_data(header));
    EXPECT_EQ(link->ifi_family, AF_BRIDGE);
    EXPECT_EQ(link->ifi_index, 7);
    nlattr* top[IFLA_MAX + 1];
    ASSERT_EQ(nlmsg_parse(nlmsg_hdr(message.get()), sizeof(ifinfomsg), top, IFLA_MAX, nullptr), 0);
    ASSERT_TRUE(top[IFLA_AF_SPEC]);
    std::string seen;
    nlattr* each;
    int left;
    nla_for_each_nested(each, top[IFLA_AF_SPEC], left) {
        const auto* info = static_cast<const bridge_vlan_info*>(nla_data(each));
        seen += fmt::format("{}:{} ", info->vid, info->flags);
    }
    EXPECT_EQ(seen, fmt::format("5:0 6:0 9:{} ", BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED));
}

TEST_F(Vlans, ABridgeThatDoesNotFilterTakesNone) {
    auto wanted = request(InterfaceType::bridge);
    wanted.interface.vlan = tagged({{5, ""}});
    wanted.interface.target.emplace().dev = "tagged0";
    EXPECT_EQ(refusal(wanted), Code::unsupported_configuration) << words;
    EXPECT_NE(words.find("vlan_filtering"), words.npos) << words;
    EXPECT_FALSE(is_there("tagged0")) << "a port that is in every VLAN is not what was asked for";
}

TEST_F(Vlans, APortIsInItsVlansOnly) {
    auto wanted = request(InterfaceType::bridge);
    wanted.interface.vlan = tagged({{5, ""}});
    wanted.interface.target.emplace().dev = "tagged0";
    if (std::system("ip link add filter0 type bridge vlan_filtering 1 2>/dev/null && ip link set filter0 up") != 0)
        GTEST_SKIP() << "this kernel's bridges filter no VLANs";
    wanted.interface.source->bridge = "filter0";
    const auto link = open(wanted);
    const auto seen = output_of("bridge vlan show dev tagged0");
    EXPECT_NE(seen.find("5 PVID Egress Untagged"), seen.npos) << seen;
    EXPECT_EQ(seen.find(" 1 "), seen.npos) << seen;
    close(link);
    ASSERT_EQ(std::system("ip link del filter0"), 0);
}

}  // namespace
