// SPDX-License-Identifier: LGPL-2.1-or-later
// Guests on networks: what their links become, what is on record, and that everything goes again.
#include "networking_bed.hpp"

namespace virtbus::tests {
namespace {

using Links = NetworkWorld;

Interface only_link(const RememberingLinks& taps) {
    return taps.open.empty() ? Interface{} : taps.open.begin()->second;
}

TEST_F(Links, AGuestGetsAPlaceAndItsLinkIsOnTheBridge) {
    boot();
    active("lan", 50, "<mtu size='1400'/>");
    const auto web = guest("web", card("lan"));
    const auto link = only_link(taps);
    EXPECT_EQ(link.type, InterfaceType::bridge);
    EXPECT_EQ(link.source->bridge, "br50");
    EXPECT_EQ(link.mtu, 1400u);
    const auto state = state_of("lan");
    ASSERT_EQ(state.ports.size(), 1u);
    EXPECT_EQ(state.ports[0].domain_name, "web");
    EXPECT_EQ(state.ports[0].domain_uuid, uuid_of("web"));
    EXPECT_EQ(state.ports[0].mac, "52:54:00:00:00:01");
    const auto live = web->xml({});
    EXPECT_NE(live.find("portid='" + state.ports[0].id + "'"), std::string::npos) << live;
    EXPECT_NE(live.find("bridge='br50'"), std::string::npos) << live;
    EXPECT_EQ(web->xml({.inactive = true}).find("br50"), std::string::npos);
    EXPECT_EQ(web->xml({.migratable = true}).find("portid"), std::string::npos);
    EXPECT_FALSE(web->view().updated);
    EXPECT_NE(network("lan")->xml(false).find("connections='1'"), std::string::npos);
    EXPECT_EQ(network("lan")->xml(true).find("connections"), std::string::npos);
    finish(web->stop({}, caller));
    EXPECT_TRUE(taps.open.empty());
    EXPECT_TRUE(state_of("lan").ports.empty());
    EXPECT_EQ(network("lan")->xml(false).find("connections"), std::string::npos);
}

TEST_F(Links, ANetworkThatIsNotThereOrDownIsSaid) {
    boot();
    const auto web = defined_guest("web", card("lan"));
    EXPECT_REFUSED(finish(web->start({}, caller)), Code::no_such_network, "'lan'");
    define_network(nat("lan"));
    EXPECT_REFUSED(finish(web->start({}, caller)), Code::invalid_state, "network 'lan' is not active; start it first");
    EXPECT_EQ(web->view().state, State::shutoff);
    start_network("lan");
    finish(web->start({}, caller));
}

TEST_F(Links, OtherInterfacesAreTheDriversOwn) {
    boot();
    guest("web", "<interface type='bridge'><mac address='52:54:00:00:00:07'/><source bridge='br0'/></interface>");
    EXPECT_TRUE(taps.open.contains("tap:1:52:54:00:00:00:07"));
}

TEST_F(Links, AStartThatFailsLeavesNoPlace) {
    boot();
    active("lan");
    taps.fail = true;
    const auto web = defined_guest("web", card("lan"));
    EXPECT_REFUSED(finish(web->start({}, caller)), Code::internal, "no link");
    EXPECT_TRUE(state_of("lan").ports.empty());
    taps.fail = false;
    const auto bad = define(xml("bad", "fail-start='yes'", "", card("lan", 2)));
    EXPECT_ANY_THROW(finish(bad->start({}, caller)));
    EXPECT_TRUE(state_of("lan").ports.empty());
    EXPECT_TRUE(taps.open.empty());
}

TEST_F(Links, APlaceIsOnRecordBeforeItsLinkIsMade) {
    boot();
    active("lan");
    taps.hang = true;
    const auto web = defined_guest("web", card("lan"));
    const auto start = web->start({}, caller);
    ASSERT_TRUE(until([&] { return taps.hangs(); }));
    EXPECT_EQ(state_of("lan").ports.size(), 1u);
    taps.let_go();
    finish(start);
}

TEST_F(Links, ANetworkThatStopsWhileALinkIsMade) {
    boot();
    active("lan");
    taps.hang = true;
    const auto web = defined_guest("web", card("lan"));
    const auto start = web->start({}, caller);
    ASSERT_TRUE(until([&] { return taps.hangs(); }));
    stop_network("lan");
    start_network("lan");
    taps.let_go();
    EXPECT_REFUSED(finish(start), Code::invalid_state, "stopped meanwhile");
    EXPECT_TRUE(taps.open.empty());
    EXPECT_TRUE(state_of("lan").ports.empty());
}

TEST_F(Links, HotplugTakesAndGivesAPlace) {
    boot();
    active("lan");
    const auto web = guest("web", "");
    finish(web->attach_device(card("lan"), ChangeScope::live, false, caller));
    ASSERT_EQ(state_of("lan").ports.size(), 1u);
    EXPECT_NE(web->xml({}).find("br50"), std::string::npos);
    finish(web->detach_device(card("lan"), ChangeScope::live, false, caller));
    EXPECT_TRUE(until([&] { return state_of("lan").ports.empty(); }));
    EXPECT_TRUE(taps.open.empty());
}

TEST_F(Links, AnUpdateThatNamesOnlyTheNetworkKeepsThePlace) {
    boot();
    active("lan");
    const auto web = guest("web", card("lan"));
    const auto id = state_of("lan").ports.at(0).id;
    finish(web->update_device(card("lan", 1, "<link state='down'/>"), ChangeScope::live, false, caller));
    EXPECT_NE(web->xml({}).find(id), std::string::npos);
}

// ---- stop and start under guests

TEST_F(Links, StopTakesTheLinkAndStartGivesItBack) {
    boot();
    active("lan");
    const auto web = guest("web", card("lan"));
    const auto id = state_of("lan").ports.at(0).id;
    stop_network("lan");
    EXPECT_EQ(web->view().state, State::running);
    start_network("lan");
    ASSERT_EQ(taps.reconnected.size(), 1u);
    EXPECT_EQ(taps.reconnected[0].first, taps.open.begin()->first);
    EXPECT_EQ(taps.reconnected[0].second.type, InterfaceType::bridge);
    EXPECT_EQ(taps.reconnected[0].second.source->bridge, "br50");
    ASSERT_EQ(state_of("lan").ports.size(), 1u);
    EXPECT_EQ(state_of("lan").ports[0].id, id);
    finish(web->stop({}, caller));
    EXPECT_TRUE(state_of("lan").ports.empty());
    EXPECT_TRUE(taps.open.empty());
}

TEST_F(Links, AGuestThatEndsWhileItsNetworkIsDownIsNotMissed) {
    boot();
    active("lan");
    const auto web = guest("web", card("lan"));
    stop_network("lan");
    finish(web->stop({}, caller));
    EXPECT_TRUE(taps.open.empty());
    start_network("lan");
    EXPECT_TRUE(taps.reconnected.empty());
    EXPECT_TRUE(state_of("lan").ports.empty());
}

TEST_F(Links, AGuestThatDoesNotComeBackStopsNobody) {
    boot();
    active("lan");
    guest("web", card("lan"));
    stop_network("lan");
    taps.fail_reconnect = true;
    start_network("lan");
    EXPECT_TRUE(network("lan")->view().active);
    EXPECT_TRUE(log.says("could not be put back"));
}

TEST_F(Links, TheLinkOfANetworkThatIsGoneGoesWithItsGuest) {
    boot();
    create_network(nat("tmp"));
    const auto web = guest("web", card("tmp"));
    stop_network("tmp");
    EXPECT_EQ(networks().size(), 0u);
    finish(web->stop({}, caller));
    EXPECT_TRUE(taps.open.empty());
}

// ---- guaranteed bandwidth

const std::string limited = "<bandwidth><inbound average='1000' peak='2000' burst='100'/></bandwidth>";

std::string floor_of(int floor) {
    return "<bandwidth><inbound average='100' floor='" + std::to_string(floor) + "'/></bandwidth>";
}

TEST_F(Links, FloorsGetClassesFromThreeOnAndGiveThemBack) {
    boot();
    active("lan", 50, limited);
    const auto a = guest("a", card("lan", 1, floor_of(500)));
    const auto b = guest("b", card("lan", 2, floor_of(500)));
    auto& classes = fake_host.bridges["br50"].classes;
    ASSERT_EQ(classes.size(), 2u);
    EXPECT_EQ(classes[3].mac, "52:54:00:00:00:01");
    EXPECT_EQ(classes[4].limit.floor, 500u);
    EXPECT_EQ(state_of("lan").floor_sum, 1000u);
    // The floor is kept on the bridge, the average limits the link.
    EXPECT_FALSE(only_link(taps).bandwidth->inbound->floor.has_value());
    EXPECT_EQ(only_link(taps).bandwidth->inbound->average, 100u);
    finish(a->stop({}, caller));
    EXPECT_FALSE(classes.contains(3));
    guest("c", card("lan", 3, floor_of(100)));
    EXPECT_EQ(classes[3].mac, "52:54:00:00:00:03");
}

TEST_F(Links, FloorsMustFitThePeak) {
    boot();
    active("lan", 50, limited);
    guest("a", card("lan", 1, floor_of(1500)));
    const auto b = defined_guest("b", card("lan", 2, floor_of(501)));
    EXPECT_REFUSED(finish(b->start({}, caller)), Code::unsupported_configuration, "overcommit the peak");
    EXPECT_EQ(state_of("lan").ports.size(), 1u);
    guest("c", card("lan", 3, floor_of(500)));
}

TEST_F(Links, FloorsMustFitTheAverageWhenThereIsNoPeak) {
    boot();
    active("lan", 50, "<bandwidth><inbound average='1000'/></bandwidth>");
    const auto b = defined_guest("b", card("lan", 2, floor_of(1001)));
    EXPECT_REFUSED(finish(b->start({}, caller)), Code::unsupported_configuration, "overcommit the average");
    guest("c", card("lan", 3, floor_of(1000)));
}

TEST_F(Links, AFloorNeedsANetworkThatHasBandwidth) {
    boot();
    active("lan");
    const auto web = defined_guest("web", card("lan", 1, floor_of(1)));
    EXPECT_REFUSED(finish(web->start({}, caller)), Code::unsupported_configuration, "no inbound bandwidth");
}

TEST_F(Links, AClassThatCannotBeMadeFailsTheStart) {
    boot();
    active("lan", 50, limited);
    fake.fail = "add-class";
    const auto web = defined_guest("web", card("lan", 1, floor_of(100)));
    EXPECT_REFUSED(finish(web->start({}, caller)), Code::internal, "add-class");
    EXPECT_TRUE(state_of("lan").ports.empty());
    EXPECT_TRUE(taps.open.empty());
}

TEST_F(Links, ClassesComeBackWithTheNetwork) {
    boot();
    active("lan", 50, limited);
    guest("a", card("lan", 1, floor_of(500)));
    stop_network("lan");
    start_network("lan");
    EXPECT_EQ(fake_host.bridges["br50"].classes.at(3).mac, "52:54:00:00:00:01");
    EXPECT_EQ(state_of("lan").floor_sum, 500u);
}

// ---- pools

TEST_F(Links, AMacvtapPoolGivesItsLeastUsedDevice) {
    boot();
    define_network(pool("wan", "vepa", "<interface dev='eth1'/><interface dev='eth2'/>"));
    start_network("wan");
    const auto a = guest("a", card("wan", 1));
    guest("b", card("wan", 2));
    guest("c", card("wan", 3));
    const auto state = state_of("wan");
    EXPECT_EQ(state.ports[0].device, "eth1");
    EXPECT_EQ(state.ports[1].device, "eth2");
    EXPECT_EQ(state.ports[2].device, "eth1");
    const auto link = only_link(taps);
    EXPECT_EQ(link.type, InterfaceType::direct);
    EXPECT_EQ(link.source->dev, "eth1");
    EXPECT_EQ(link.source->mode, "vepa");
    EXPECT_NE(a->xml({}).find("dev='eth1'"), std::string::npos);
    EXPECT_EQ(a->xml({.inactive = true}).find("eth1"), std::string::npos);
    EXPECT_NE(network("wan")->xml(false).find("connections='3'"), std::string::npos);
    EXPECT_NE(network("wan")->xml(false).find("dev='eth1' connections='2'"), std::string::npos)
        << network("wan")->xml(false);
}

TEST_F(Links, PassthroughGivesADeviceToOneGuestOnly) {
    boot();
    define_network(pool("wan", "passthrough", "<interface dev='eth1'/>"));
    start_network("wan");
    const auto a = guest("a", card("wan", 1));
    const auto b = defined_guest("b", card("wan", 2));
    EXPECT_REFUSED(finish(b->start({}, caller)), Code::device_in_use, "'wan'");
    finish(a->stop({}, caller));
    finish(b->start({}, caller));
}

TEST_F(Links, AHostdevPoolGivesFunctions) {
    boot();
    fake.functions["eth9"] = {{{"pci", 0, 1, 2, 0, {}}, "eth9v0"}, {{"pci", 0, 1, 2, 1, {}}, "eth9v1"}};
    define_network("<network><name>vfs</name><uuid>" + uuid_of("vfs") +
                   "</uuid><forward mode='hostdev' managed='yes'><pf dev='eth9'/></forward></network>");
    start_network("vfs");
    const auto a = guest("a", card("vfs", 1));
    EXPECT_EQ(state_of("vfs").ports.at(0).device, "0000:01:02.0");
    const auto link = only_link(taps);
    EXPECT_EQ(link.type, InterfaceType::hostdev);
    ASSERT_TRUE(link.source->host_address);
    EXPECT_EQ(link.managed, true);
    guest("b", card("vfs", 2));
    const auto c = defined_guest("c", card("vfs", 3));
    EXPECT_REFUSED(finish(c->start({}, caller)), Code::device_in_use, "all its 2 devices");
    EXPECT_EQ(a->xml({.inactive = true}).find("managed"), std::string::npos);
}

TEST_F(Links, APoolWithoutDevicesGivesNone) {
    boot();
    define_network(pool("vfs", "hostdev", "<pf dev='eth9'/>"));
    start_network("vfs");
    const auto a = defined_guest("a", card("vfs", 1));
    EXPECT_REFUSED(finish(a->start({}, caller)), Code::unsupported_configuration, "no device");
}

TEST_F(Links, AForeignBridgeIsUsedAsItIs) {
    boot();
    define_network(pool("wan", "bridge", "", "<bridge name='host0'/>"));
    start_network("wan");
    guest("a", card("wan", 1));
    EXPECT_EQ(only_link(taps).type, InterfaceType::bridge);
    EXPECT_EQ(only_link(taps).source->bridge, "host0");
    const auto b = defined_guest("b", card("wan", 2, floor_of(1)));
    EXPECT_REFUSED(finish(b->start({}, caller)), Code::unsupported_configuration, "mode 'bridge'");
}

TEST_F(Links, AGuestOfAPoolHasItsOwnDeviceAgain) {
    boot();
    define_network(pool("wan", "vepa", "<interface dev='eth1'/><interface dev='eth2'/>"));
    start_network("wan");
    const auto a = guest("a", card("wan", 1));
    guest("b", card("wan", 2));
    finish(a->stop({}, caller));
    stop_network("wan");
    start_network("wan");
    ASSERT_EQ(state_of("wan").ports.size(), 1u);
    EXPECT_EQ(state_of("wan").ports[0].device, "eth2");
    EXPECT_EQ(taps.reconnected.at(0).second.source->dev, "eth2");
}

}  // namespace
}  // namespace virtbus::tests
