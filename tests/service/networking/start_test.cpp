// SPDX-License-Identifier: LGPL-2.1-or-later
// Networks come and go: start, create, stop, and what stands in the way.
#include "networking_bed.hpp"

namespace virtbus::tests {
namespace {

using Start = NetworkWorld;

TEST_F(Start, ItIsRecordedBeforeAnybodyIsTold) {
    boot();
    const auto lan = define_network(nat("lan"));
    finish(lan->start(caller));
    EXPECT_TRUE(lan->view().active);
    EXPECT_TRUE(fake_host.bridges.contains("br50"));
    EXPECT_TRUE(audience.heard("network changed lan"));
    const auto state = state_of("lan");
    EXPECT_TRUE(state.started);
    EXPECT_EQ(state.boot_id, "boot-1");
    EXPECT_EQ(state.driver_state, "fake br50 2");
    EXPECT_EQ(state.config.uuid, uuid_of("lan"));
    EXPECT_FALSE(room->idle());
    finish(lan->stop(caller));
    EXPECT_FALSE(lan->view().active);
    EXPECT_FALSE(exists(state_path("lan")));
    EXPECT_TRUE(fake_host.bridges.empty());
    EXPECT_TRUE(room->idle());
}

TEST_F(Start, OnlyWhatIsInactiveStartsAndOnlyWhatIsActiveStops) {
    boot();
    const auto lan = active("lan");
    EXPECT_REFUSED(finish(lan->start(caller)), Code::invalid_state, "active");
    finish(lan->stop(caller));
    EXPECT_REFUSED(finish(lan->stop(caller)), Code::invalid_state, "inactive");
    EXPECT_EQ(fake.count("start lan"), 1u);
}

TEST_F(Start, ATransientOneIsGoneWhenItStops) {
    boot();
    const auto tmp = create_network(nat("tmp"));
    EXPECT_TRUE(tmp->view().active);
    EXPECT_FALSE(tmp->view().persistent);
    EXPECT_FALSE(exists(network_path("tmp")));
    finish(tmp->stop(caller));
    EXPECT_EQ(networks().size(), 0u);
    EXPECT_EQ(audience.told.back(), "network removed tmp");
}

TEST_F(Start, CreateOfADefinedOneStartsItWithTheGivenDefinition) {
    boot();
    const auto lan = define_network(nat("lan"));
    const auto stored = lan->xml(true);
    create_network(nat("lan", 50, "<mtu size='1400'/>"));
    EXPECT_TRUE(lan->view().active);
    EXPECT_TRUE(lan->view().persistent);
    EXPECT_TRUE(lan->view().updated);
    EXPECT_EQ(lan->xml(true), stored);
    EXPECT_NE(lan->xml(false).find("1400"), std::string::npos);
    EXPECT_REFUSED(create_network(nat("lan")), Code::invalid_state, "active");
    finish(lan->stop(caller));
    EXPECT_FALSE(lan->view().updated);
    EXPECT_TRUE(lan->view().persistent);
}

TEST_F(Start, ACreationThatFailsLeavesNoTrace) {
    boot();
    fake.fail = "rules";
    EXPECT_REFUSED(create_network(nat("tmp")), Code::internal, "rules");
    EXPECT_EQ(networks().size(), 0u);
    EXPECT_FALSE(exists(state_path("tmp")));
    EXPECT_FALSE(audience.heard("network added tmp"));
    fake.fail.clear();
    create_network(nat("tmp"));
}

TEST_F(Start, WhateverStepFailsNothingStays) {
    boot();
    const auto lan = define_network(nat("lan"));
    for (const auto* step : {"bridge", "rules", "server"}) {
        fake.fail = step;
        EXPECT_REFUSED(finish(lan->start(caller)), Code::internal, step);
        EXPECT_FALSE(lan->view().active);
        EXPECT_FALSE(exists(state_path("lan"))) << step;
        EXPECT_TRUE(fake_host.bridges.empty()) << step;
        EXPECT_TRUE(log.says("network 'lan': not started: the step " + std::string{step})) << step;
    }
    fake.fail.clear();
    finish(lan->start(caller));
}

TEST_F(Start, WhatCannotBeRecordedIsNotMade) {
    boot();
    const auto lan = define_network(nat("lan"));
    files.full = true;
    EXPECT_REFUSED(finish(lan->start(caller)), Code::no_space, "lan");
    EXPECT_FALSE(lan->view().active);
    EXPECT_TRUE(fake_host.bridges.empty());
    files.full = false;
    finish(lan->start(caller));
}

TEST_F(Start, WhatTheHostCannotDoIsSaidBeforeAnythingIsMade) {
    boot();
    const auto lan = define_network(nat("lan"));
    fake.cannot = {"there is no dnsmasq"};
    EXPECT_REFUSED(finish(lan->start(caller)), Code::unsupported_configuration, "no dnsmasq");
    EXPECT_EQ(fake.count("start lan"), 0u);
}

TEST_F(Start, TwoWithOneRangeAreNotActiveTogether) {
    boot();
    active("lan", 50);
    auto text = nat("wan", 51);
    for (auto at = text.find("192.168.51."); at != text.npos; at = text.find("192.168.51."))
        text.replace(at, 11, "192.168.50.");
    const auto wan = define_network(text);
    EXPECT_REFUSED(finish(wan->start(caller)), Code::unsupported_configuration, "'lan'");
    EXPECT_EQ(fake.count("start wan"), 0u);
    stop_network("lan");
    finish(wan->start(caller));
    EXPECT_REFUSED(start_network("lan"), Code::unsupported_configuration, "192.168.50.1/24");
}

TEST_F(Start, TwoWithOneRangeThatStartAtOnce) {
    boot();
    define_network(nat("lan", 50));
    auto text = nat("wan", 51);
    for (auto at = text.find("192.168.51."); at != text.npos; at = text.find("192.168.51."))
        text.replace(at, 11, "192.168.50.");
    define_network(text);
    const auto one = network("lan")->start(caller), two = network("wan")->start(caller);
    EXPECT_NO_THROW(finish(one));
    EXPECT_REFUSED(finish(two), Code::unsupported_configuration, "'lan'");
}

TEST_F(Start, StopDoesNotWaitForAStartThatHangs) {
    boot();
    const auto lan = define_network(nat("lan"));
    fake.hang = "rules";
    const auto start = lan->start(caller);
    ASSERT_TRUE(until([&] { return fake.hangs(); }));
    finish(lan->stop(caller));
    EXPECT_REFUSED(finish(start), Code::cancelled, "");
    EXPECT_FALSE(lan->view().active);
    EXPECT_TRUE(fake_host.bridges.empty());
    EXPECT_FALSE(exists(state_path("lan")));
    fake.hang.clear();
    finish(lan->start(caller));
}

TEST_F(Start, AStopThatFailsLeavesItActiveAndCanBeRepeated) {
    boot();
    const auto lan = active("lan");
    fake.fail = "stop";
    EXPECT_REFUSED(finish(lan->stop(caller)), Code::internal, "stop");
    EXPECT_TRUE(lan->view().active);
    EXPECT_TRUE(state_of("lan").started);
    fake.fail.clear();
    finish(lan->stop(caller));
    EXPECT_FALSE(lan->view().active);
}

TEST_F(Start, ManyStartSideBySide) {
    boot();
    std::vector<JobPtr> jobs;
    for (int i = 0; i < 40; ++i) jobs.push_back(define_network(nat("n" + std::to_string(i), i))->start(caller));
    for (const auto& job : jobs) finish(job);
    EXPECT_EQ(fake_host.bridges.size(), 40u);
}

// ---- redefining one that is active

TEST_F(Start, ADefinitionOfAnActiveOneCountsFromTheNextStart) {
    boot();
    const auto lan = active("lan");
    define_network(nat("lan", 50, "<mtu size='1400'/>"));
    EXPECT_TRUE(lan->view().updated);
    EXPECT_EQ(lan->xml(false).find("1400"), std::string::npos);
    EXPECT_NE(lan->xml(true).find("1400"), std::string::npos);
    boot();
    EXPECT_TRUE(network("lan")->view().updated);
    define_network(nat("lan"));
    EXPECT_FALSE(network("lan")->view().updated);
}

TEST_F(Start, WhatAStartFillsInIsNoDifference) {
    boot();
    fake.functions["eth9"] = {{{"pci", 0, 1, 2, 3, {}}, "eth9v0"}, {{"pci", 0, 1, 2, 4, {}}, ""}};
    const auto vfs = define_network(pool("vfs", "hostdev", "<pf dev='eth9'/>"));
    finish(vfs->start(caller));
    EXPECT_FALSE(vfs->view().updated);
    EXPECT_NE(vfs->xml(false).find("function='0x3'"), std::string::npos) << vfs->xml(false);
    EXPECT_EQ(vfs->xml(true).find("function='0x3'"), std::string::npos);
}

TEST_F(Start, ACardsFunctionsAreGivenOutAsDevices) {
    boot();
    fake.functions["eth9"] = {{{"pci", 0, 1, 2, 3, {}}, "eth9v0"}, {{"pci", 0, 1, 2, 4, {}}, ""}};
    const auto vfs = define_network(pool("vfs", "passthrough", "<pf dev='eth9'/>"));
    finish(vfs->start(caller));
    EXPECT_NE(vfs->xml(false).find("<interface dev='eth9v0'/>"), std::string::npos) << vfs->xml(false);
    EXPECT_FALSE(vfs->view().updated);
    EXPECT_EQ(vfs->xml(true).find("eth9v0"), std::string::npos);
}

// ---- what the driver tells

TEST_F(Start, ItsStateIsRecordedWhenItMoves) {
    boot();
    active("lan");
    fake.running("lan")->move();
    EXPECT_EQ(state_of("lan").driver_state, "fake br50 3");
}

TEST_F(Start, ATroubleIsShownUntilItIsOver) {
    boot();
    const auto lan = active("lan");
    fake.running("lan")->fall_ill("dnsmasq was given up");
    EXPECT_EQ(lan->view().problem, "dnsmasq was given up");
    EXPECT_TRUE(log.says("dnsmasq was given up"));
    fake.running("lan")->fall_ill("");
    EXPECT_EQ(lan->view().problem, "");
}

TEST_F(Start, LeasesAreFoundByAnySpellingOfAMac) {
    boot();
    const auto lan = active("lan");
    fake_host.bridges["br50"].leases = {{"52:54:00:0a:0b:0c", "192.168.50.7", 24, "web", "", 1},
                                        {"", "fd00::7", 64, "web", "00:01", 1}};
    EXPECT_EQ(lan->leases("").size(), 2u);
    for (const auto* mac : {"52:54:00:0a:0b:0c", "52-54-00-0A-0B-0C", "52:54:0:a:b:c", "5254000A0B0C"}) {
        ASSERT_EQ(lan->leases(mac).size(), 1u) << mac;
        EXPECT_EQ(lan->leases(mac)[0].address, "192.168.50.7");
    }
    EXPECT_TRUE(lan->leases("52:54:00:0a:0b:0d").empty());
    EXPECT_REFUSED((void)lan->leases("web"), Code::invalid_args, "web");
    EXPECT_REFUSED((void)lan->leases("52:54:00:0a:0b:"), Code::invalid_args, "MAC");
    finish(lan->stop(caller));
    EXPECT_TRUE(lan->leases("").empty());
}

}  // namespace
}  // namespace virtbus::tests
