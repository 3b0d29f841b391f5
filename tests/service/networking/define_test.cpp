// SPDX-License-Identifier: LGPL-2.1-or-later
// What is stored of networks, and who is which.
#include "networking_bed.hpp"

namespace virtbus::tests {
namespace {

using Define = NetworkWorld;

TEST_F(Define, ItIsStoredUnderItsUuidAndFoundAgain) {
    boot();
    const auto lan = define_network(nat("lan"));
    EXPECT_TRUE(audience.heard("network added lan"));
    EXPECT_TRUE(exists(network_path("lan")));
    EXPECT_EQ(lan->xml(true), read(network_path("lan")));
    const auto before = lan->view();
    EXPECT_TRUE(before.persistent);
    EXPECT_FALSE(before.active);
    EXPECT_EQ(before.bridge, "br50");
    EXPECT_EQ(before.forward_mode, "nat");
    EXPECT_EQ(before.addresses, std::vector<std::string>{"192.168.50.1/24"});
    boot();
    EXPECT_EQ(network("lan")->view(), before);
    EXPECT_FALSE(audience.heard("network added lan"));
}

TEST_F(Define, NameFirstThenAnySpellingOfTheUuid) {
    boot();
    define_network(nat("lan"));
    auto uuid = uuid_of("lan");
    EXPECT_EQ(network(uuid)->view().name, "lan");
    std::erase(uuid, '-');
    EXPECT_EQ(network(uuid)->view().name, "lan");
    EXPECT_REFUSED((void)networks().get("other"), Code::no_such_network, "other");
    EXPECT_EQ(networks().identify(nat("lan")).uuid, uuid_of("lan"));
}

TEST_F(Define, ANameOrAUuidOfAnotherIsTaken) {
    boot();
    define_network(nat("lan"));
    auto other = nat("lan", 51);
    other.replace(other.find(uuid_of("lan")), 36, uuid_of("x"));
    EXPECT_REFUSED(define_network(other), Code::already_exists, uuid_of("lan"));
    auto renamed = nat("lan", 51);
    renamed.replace(renamed.find("<name>lan"), 9, "<name>wan");
    EXPECT_REFUSED(define_network(renamed), Code::already_exists, "'lan'");
    auto without = nat("lan", 51);
    without.replace(without.find("<uuid>"), without.find("</uuid>") + 7 - without.find("<uuid>"), "");
    EXPECT_REFUSED(define_network(without), Code::already_exists, "names no UUID");
    EXPECT_EQ(networks().size(), 1u);
}

TEST_F(Define, WhatIsNotUnderstoodIsAnErrorOnlyWhenAskedFor) {
    boot();
    const auto text = nat("lan", 50, "<mystery/>");
    EXPECT_REFUSED((void)run(networks().define(text, true, caller)), Code::invalid_xml, "mystery");
    EXPECT_NE(define_network(text)->xml(true).find("mystery"), std::string::npos);
}

TEST_F(Define, ANameMustBeOneOfAFile) {
    boot();
    EXPECT_REFUSED(define_network(nat("../evil")), Code::invalid_xml, "");
    EXPECT_REFUSED(define_network(nat(std::string(201, 'n'))), Code::invalid_xml, "200");
    EXPECT_EQ(define_network(nat(std::string(200, 'n')))->view().name.size(), 200u);
    start_network(std::string(200, 'n'));
}

// ---- bridges

TEST_F(Define, TheFirstFreeBridgeIsGiven) {
    fake_host.other_links.insert("virbr1");
    boot();
    EXPECT_EQ(define_network(with_bridge("a", "", 50))->view().bridge, "virbr0");
    EXPECT_EQ(define_network(with_bridge("b", "", 51))->view().bridge, "virbr2");
}

TEST_F(Define, AFileThatNamesNoBridgeGetsOneAtItsStart) {
    fake_host.other_links.insert("virbr0");
    boot();
    write(network_path("lan"), with_bridge("lan", "", 50));
    boot();
    start_network("lan");
    EXPECT_EQ(network("lan")->view().bridge, "virbr1");
    EXPECT_FALSE(network("lan")->view().updated);
}

TEST_F(Define, TwoAtOnceGetTwoBridges) {
    boot();
    Scope scope;
    int ended = 0;
    const auto both = [](NetworkWorld*, Networks& networks, std::string xml, Caller caller, int& ended) -> Task<> {
        (void)co_await networks.define(xml, false, caller);
        ++ended;
    };
    scope.spawn(both(this, networks(), with_bridge("a", "", 50), caller, ended));
    scope.spawn(both(this, networks(), with_bridge("b", "", 51), caller, ended));
    ASSERT_TRUE(until([&] { return ended == 2; }));
    EXPECT_NE(network("a")->view().bridge, network("b")->view().bridge);
}

TEST_F(Define, ABridgeOfAnotherNetworkIsRefusedAndItsOwnIsNot) {
    boot();
    define_network(nat("lan"));
    EXPECT_REFUSED(define_network(with_bridge("wan", "<bridge name='br50'/>", 51)), Code::already_exists, "'lan'");
    EXPECT_EQ(networks().size(), 1u);
    define_network(nat("lan", 50, "<mtu size='1400'/>"));
    // One that names none keeps what it has.
    EXPECT_EQ(define_network(with_bridge("lan", "", 50))->view().bridge, "br50");
}

TEST_F(Define, AForeignBridgeMayServeSeveral) {
    boot();
    define_network(pool("a", "bridge", "", "<bridge name='host0'/>"));
    define_network(pool("b", "bridge", "", "<bridge name='host0'/>"));
    EXPECT_EQ(networks().size(), 2u);
}

// ---- undefine, autostart

TEST_F(Define, UndefineTakesTheFileAndTheLink) {
    boot();
    const auto lan = define_network(nat("lan"));
    finish(lan->set_autostart(true, caller));
    EXPECT_TRUE(exists(autostart_path("lan")));
    EXPECT_TRUE(lan->view().autostart);
    finish(lan->undefine(caller));
    EXPECT_FALSE(exists(network_path("lan")));
    EXPECT_FALSE(exists(autostart_path("lan")));
    EXPECT_EQ(audience.told.back().find("network removed lan"), 0u);
    EXPECT_EQ(networks().find_by_name("lan"), nullptr);
    EXPECT_REFUSED(finish(lan->start(caller)), Code::no_such_network, "gone");
    define_network(nat("lan"));
}

TEST_F(Define, OneThatIsActiveBecomesTransient) {
    boot();
    const auto lan = active("lan");
    finish(lan->set_autostart(true, caller));
    finish(lan->undefine(caller));
    EXPECT_TRUE(lan->view().active);
    EXPECT_FALSE(lan->view().persistent);
    EXPECT_FALSE(lan->view().autostart);
    EXPECT_REFUSED(finish(lan->undefine(caller)), Code::invalid_state, "transient");
    EXPECT_REFUSED(finish(lan->set_autostart(true, caller)), Code::invalid_state, "transient");
    EXPECT_NE(lan->xml(true).find("<name>lan"), std::string::npos);
    boot();
    EXPECT_TRUE(network("lan")->view().active);
    stop_network("lan");
    EXPECT_EQ(networks().size(), 0u);
}

TEST_F(Define, AutostartIsDoneOncePerBootAndBeforeTheDomains) {
    boot();
    define_network(nat("lan"));
    define_network(nat("off", 51));
    finish(network("lan")->set_autostart(true, caller));
    const auto web = defined_guest("web", card("lan"));
    finish(web->set_autostart(true, caller));
    boot();
    run(room->autostart());
    EXPECT_TRUE(network("lan")->view().active);
    EXPECT_FALSE(network("off")->view().active);
    EXPECT_EQ(get("web")->view().state, State::running);
    finish(get("web")->stop({}, caller));
    stop_network("lan");
    boot();
    run(room->autostart());
    EXPECT_FALSE(network("lan")->view().active);
    ports->boot_id = "boot-2";
    boot();
    run(room->autostart());
    EXPECT_TRUE(network("lan")->view().active);
}

// ---- files that are not as they should be

TEST_F(Define, ABrokenFileStaysListedAndSaysWhy) {
    boot();
    define_network(nat("lan"));
    write(network_path("lan"),
          "<network><name>lan</name><uuid>" + uuid_of("lan") + "</uuid><ip address='x'/></network>");
    boot();
    const auto lan = network("lan");
    EXPECT_NE(lan->view().problem, "");
    EXPECT_TRUE(lan->view().persistent);
    EXPECT_REFUSED(finish(lan->start(caller)), Code::unsupported_configuration, "unusable");
    define_network(nat("lan"));
    EXPECT_EQ(network("lan")->view().problem, "");
    start_network("lan");
}

TEST_F(Define, ABrokenFileCanBeUndefined) {
    boot();
    write(network_path("lan"), "rubbish");
    boot();
    ASSERT_EQ(networks().size(), 1u);
    finish(networks().list().front()->undefine(caller));
    EXPECT_FALSE(exists(network_path("lan")));
    EXPECT_EQ(networks().size(), 0u);
}

TEST_F(Define, OfTwoFilesOfOneNameTheFirstCounts) {
    boot();
    define_network(nat("lan"));
    write(root + "/config/networks/zzz.xml", nat("lan"));
    boot();
    EXPECT_EQ(networks().size(), 1u);
    EXPECT_TRUE(log.says("left alone"));
}

TEST_F(Define, AFullDiskLeavesEverythingAsItWas) {
    boot();
    files.full = true;
    EXPECT_REFUSED(define_network(nat("lan")), Code::no_space, "");
    EXPECT_EQ(networks().size(), 0u);
    files.full = false;
    define_network(nat("lan"));
    const auto before = network("lan")->xml(true);
    files.full = true;
    EXPECT_REFUSED(define_network(nat("lan", 51)), Code::no_space, "");
    EXPECT_EQ(network("lan")->xml(true), before);
    EXPECT_EQ(network("lan")->view().bridge, "br50");
    // A bridge that was only asked for is free again.
    files.full = false;
    EXPECT_EQ(define_network(nat("wan", 51))->view().bridge, "br51");
}

TEST_F(Define, WithoutADriverNetworksCanBeDefinedOnly) {
    network_driver = nullptr;
    boot();
    const auto lan = define_network(with_bridge("lan", "", 50));
    EXPECT_EQ(lan->view().bridge, "virbr0");
    EXPECT_REFUSED(finish(lan->start(caller)), Code::unsupported, "'lan'");
    EXPECT_REFUSED(create_network(nat("tmp", 51)), Code::unsupported, "'tmp'");
    EXPECT_EQ(networks().size(), 1u);
}

}  // namespace
}  // namespace virtbus::tests
