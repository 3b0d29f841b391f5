// SPDX-License-Identifier: LGPL-2.1-or-later
// Changes of parts of a network while it is active and while it is not, and the guests that stand in their way.
#include "networking_bed.hpp"

namespace virtbus::tests {
namespace {

class Update : public NetworkWorld {
protected:
    using Scope = ChangeScope;
    void update(const std::string& name, const std::string& command, const std::string& section, const std::string& xml,
                Scope scope = Scope::current, bool force = false) {
        finish(network(name)->update({command, section, -1, xml}, scope, force, caller));
    }
    static std::string host_entry(int number) {
        return "<host mac='52:54:00:00:00:0" + std::to_string(number) + "' ip='192.168.50.2" + std::to_string(number) +
               "'/>";
    }
    bool stored_has(const std::string& what) { return network("lan")->xml(true).find(what) != std::string::npos; }
    bool live_has(const std::string& what) { return network("lan")->xml(false).find(what) != std::string::npos; }
    bool host_has(const std::string& what) {
        return fake_host.bridges["br50"].definition.find(what) != std::string::npos;
    }
    const std::string group = "<portgroup name='fast'><bandwidth><inbound average='10'/></bandwidth></portgroup>";
    const std::string other_group = "<portgroup name='fast'><bandwidth><inbound average='20'/></bandwidth></portgroup>";
};

TEST_F(Update, AnInactiveOneChangesWhatIsStored) {
    boot();
    define_network(nat("lan"));
    update("lan", "add-last", "ip-dhcp-host", host_entry(1));
    EXPECT_TRUE(stored_has("192.168.50.21"));
    EXPECT_REFUSED(update("lan", "add-last", "ip-dhcp-host", host_entry(2), Scope::live), Code::invalid_state,
                   "inactive");
    boot();
    EXPECT_TRUE(stored_has("192.168.50.21"));
}

TEST_F(Update, AnActiveOneChangesItsLifeOnlyUnlessBothIsSaid) {
    boot();
    active("lan");
    update("lan", "add-last", "ip-dhcp-host", host_entry(1));
    EXPECT_TRUE(live_has("192.168.50.21"));
    EXPECT_TRUE(host_has("192.168.50.21"));
    EXPECT_FALSE(stored_has("192.168.50.21"));
    EXPECT_TRUE(network("lan")->view().updated);
    update("lan", "add-last", "ip-dhcp-host", host_entry(1), Scope::persistent);
    EXPECT_FALSE(network("lan")->view().updated);
    update("lan", "add-last", "ip-dhcp-host", host_entry(2), Scope::both);
    EXPECT_TRUE(live_has("192.168.50.22"));
    EXPECT_TRUE(stored_has("192.168.50.22"));
    EXPECT_FALSE(network("lan")->view().updated);
    EXPECT_EQ(state_of("lan").config.ips.at(0).dhcp->hosts.size(), 2u);
    boot();
    EXPECT_TRUE(live_has("192.168.50.22"));
}

TEST_F(Update, BothIsRefusedBeforeEitherHalfChanges) {
    boot();
    active("lan");
    update("lan", "add-last", "ip-dhcp-host", host_entry(1), Scope::persistent);
    EXPECT_ANY_THROW(update("lan", "add-last", "ip-dhcp-host", host_entry(1), Scope::both));
    EXPECT_FALSE(live_has("192.168.50.21"));
    EXPECT_EQ(fake.count("update lan"), 0u);
    create_network(nat("tmp", 51));
    EXPECT_REFUSED(
        update("tmp", "delete", "ip-dhcp-range", "<range start='192.168.51.2' end='192.168.51.99'/>", Scope::both),
        Code::invalid_state, "transient");
    EXPECT_EQ(fake.count("update tmp"), 0u);
}

TEST_F(Update, WhatTheDriverCannotChangeIsAsBefore) {
    boot();
    active("lan");
    fake.fail = "update";
    EXPECT_REFUSED(update("lan", "add-last", "ip-dhcp-host", host_entry(1), Scope::both), Code::internal, "update");
    EXPECT_FALSE(live_has("192.168.50.21"));
    EXPECT_FALSE(stored_has("192.168.50.21"));
    EXPECT_FALSE(network("lan")->view().updated);
    EXPECT_TRUE(state_of("lan").config.ips.at(0).dhcp->hosts.empty());
}

TEST_F(Update, WhatCannotBeStoredIsTakenBack) {
    boot();
    active("lan");
    files.steps_left = 0;
    EXPECT_REFUSED(update("lan", "add-last", "ip-dhcp-host", host_entry(1), Scope::both), Code::internal, "");
    files.steps_left = -1;
    EXPECT_FALSE(live_has("192.168.50.21"));
    EXPECT_FALSE(host_has("192.168.50.21"));
    EXPECT_FALSE(stored_has("192.168.50.21"));
    EXPECT_TRUE(state_of("lan").config.ips.at(0).dhcp->hosts.empty());
}

TEST_F(Update, WhatCannotBeRecordedIsTakenBack) {
    boot();
    active("lan");
    files.full = true;
    EXPECT_REFUSED(update("lan", "add-last", "ip-dhcp-host", host_entry(1)), Code::no_space, "");
    files.full = false;
    EXPECT_FALSE(live_has("192.168.50.21"));
    EXPECT_FALSE(host_has("192.168.50.21"));
}

TEST_F(Update, ABrokenDefinitionIsNotChanged) {
    boot();
    define_network(nat("lan"));
    write(network_path("lan"), "<network><name>lan</name><ip address='x'/></network>");
    boot();
    EXPECT_REFUSED(update("lan", "add-last", "ip-dhcp-host", host_entry(1)), Code::unsupported_configuration,
                   "unusable");
}

// ---- guests in the way

TEST_F(Update, APortgroupInUseStaysUnlessForced) {
    boot();
    active("lan", 50, group);
    guest("web", card("lan", 1, "", " portgroup='fast'"));
    guest("db", card("lan", 2));
    EXPECT_REFUSED(update("lan", "delete", "portgroup", group), Code::network_in_use, "'web'");
    EXPECT_REFUSED(update("lan", "modify", "portgroup", other_group), Code::network_in_use, "would change");
    EXPECT_TRUE(live_has("average='10'") || live_has("average=\"10\""));
    EXPECT_EQ(fake.count("update lan"), 0u);
    update("lan", "modify", "portgroup", other_group, Scope::current, true);
    EXPECT_EQ(fake.count("update lan"), 1u);
    // What is stored has no guests.
    update("lan", "delete", "portgroup", group, Scope::persistent);
    finish(get("web")->stop({}, caller));
    update("lan", "delete", "portgroup", group);
    EXPECT_FALSE(live_has("portgroup"));
}

TEST_F(Update, APortgroupThatNobodyNamedCountsByDefault) {
    boot();
    active("lan", 50, "<portgroup name='all' default='yes'/>" + group);
    guest("web", card("lan", 1));
    update("lan", "delete", "portgroup", group);
    EXPECT_REFUSED(update("lan", "delete", "portgroup", "<portgroup name='all'/>"), Code::network_in_use, "'all'");
}

TEST_F(Update, ADeviceOfAPoolInUseStaysUnlessForced) {
    boot();
    define_network(pool("wan", "vepa", "<interface dev='eth1'/><interface dev='eth2'/><interface dev='eth3'/>"));
    start_network("wan");
    guest("a", card("wan", 1));
    EXPECT_REFUSED(update("wan", "delete", "forward-interface", "<interface dev='eth1'/>"), Code::network_in_use,
                   "eth1");
    update("wan", "delete", "forward-interface", "<interface dev='eth2'/>");
    update("wan", "delete", "forward-interface", "<interface dev='eth1'/>", Scope::current, true);
    EXPECT_EQ(network("wan")->xml(false).find("eth1"), std::string::npos);
    // It comes back to a network that does not give that device any more.
    stop_network("wan");
    finish(network("wan")->start(caller));
}

TEST_F(Update, DhcpHostsStandInNobodysWay) {
    boot();
    active("lan");
    guest("web", card("lan", 1));
    update("lan", "add-last", "ip-dhcp-host", host_entry(1));
    update("lan", "delete", "ip-dhcp-host", host_entry(1));
    EXPECT_EQ(fake.count("update lan"), 2u);
}

}  // namespace
}  // namespace virtbus::tests
