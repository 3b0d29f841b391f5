// SPDX-License-Identifier: LGPL-2.1-or-later
// What a daemon finds that another has left: networks that are active, half made, gone, or recorded by older layouts.
#include <chrono>

#include "networking_bed.hpp"

namespace virtbus::tests {
namespace {

class Restart : public NetworkWorld {
protected:
    /// As libvirt leaves it.
    static std::string older(const std::string& name, int number, const std::string& classes = "0-2",
                             unsigned floors = 0) {
        auto network = nat(name, number);
        return "<networkstatus><class_id bitmap='" + classes + "'/><floor sum='" + std::to_string(floors) + "'/>" +
               network + "</networkstatus>";
    }
    void age(const std::string& path) {
        std::filesystem::last_write_time(
            path, std::filesystem::file_time_type::clock::now() - std::chrono::hours{24 * 365 * 20});
    }
    std::vector<std::string> left_in_old_place() const {
        std::vector<std::string> names;
        const auto folder = root + "/state/network";
        if (std::filesystem::exists(folder))
            for (const auto& entry : std::filesystem::directory_iterator{folder})
                names.push_back(entry.path().filename());
        std::sort(names.begin(), names.end());
        return names;
    }
    using Names = std::vector<std::string>;
};

TEST_F(Restart, AnActiveNetworkIsTakenUpWithItsGuestsLeasesAndClasses) {
    boot();
    active("lan", 50, "<bandwidth><inbound average='1000'/></bandwidth>");
    guest("web", card("lan", 1, "<bandwidth><inbound average='10' floor='100'/></bandwidth>"));
    fake_host.bridges["br50"].leases = {{"52:54:00:00:00:01", "192.168.50.7", 24, "web", "", 1}};
    const auto before = state_of("lan");
    const auto shown = network("lan")->view();
    boot();
    EXPECT_EQ(network("lan")->view(), shown);
    EXPECT_EQ(fake.adopted_with, "fake br50 2");
    EXPECT_EQ(fake.count("start lan"), 1u);
    EXPECT_EQ(state_of("lan").ports, before.ports);
    EXPECT_EQ(network("lan")->leases("").size(), 1u);
    EXPECT_TRUE(fake_host.bridges["br50"].classes.contains(3));
    // Its numbers are still taken.
    guest("db", card("lan", 2, "<bandwidth><inbound average='10' floor='900'/></bandwidth>"));
    EXPECT_TRUE(fake_host.bridges["br50"].classes.contains(4));
    const auto full = defined_guest("x", card("lan", 3, "<bandwidth><inbound average='10' floor='1'/></bandwidth>"));
    EXPECT_REFUSED(finish(full->start({}, caller)), Code::unsupported_configuration, "overcommit");
    // And its guests are its own.
    ASSERT_EQ(taps.reconnected.size(), 1u);
    finish(get("web")->stop({}, caller));
    EXPECT_EQ(state_of("lan").ports.size(), 1u);
    EXPECT_FALSE(fake_host.bridges["br50"].classes.contains(3));
}

TEST_F(Restart, GuestsTakenUpComeBackWithTheNetwork) {
    boot();
    active("lan");
    guest("web", card("lan"));
    boot();
    taps.reconnected.clear();
    stop_network("lan");
    start_network("lan");
    ASSERT_EQ(taps.reconnected.size(), 1u);
    EXPECT_EQ(state_of("lan").ports.size(), 1u);
}

TEST_F(Restart, APlaceWhoseGuestEndedMeanwhileIsGivenUp) {
    boot();
    active("lan");
    guest("web", card("lan"), "die-after-ms='60000'");
    guest("db", card("lan", 2));
    room.reset();
    clock.shift += 60'000'000;
    boot();
    ASSERT_EQ(state_of("lan").ports.size(), 1u);
    EXPECT_EQ(state_of("lan").ports[0].domain_name, "db");
    EXPECT_EQ(taps.open.size(), 1u);
}

TEST_F(Restart, APlaceOnRecordThatNobodyGotIsGivenUp) {
    boot();
    active("lan", 50, "<bandwidth><inbound average='1000'/></bandwidth>");
    taps.hang = true;
    const auto web = defined_guest("web", card("lan", 1, "<bandwidth><inbound average='10' floor='100'/></bandwidth>"));
    const auto start = web->start({}, caller);
    ASSERT_TRUE(until([&] { return taps.hangs(); }));
    room.reset();
    taps.let_go();
    ASSERT_EQ(state_of("lan").ports.size(), 1u);
    boot();
    EXPECT_TRUE(state_of("lan").ports.empty());
    EXPECT_TRUE(fake_host.bridges["br50"].classes.empty());
}

TEST_F(Restart, AStartThatADaemonDiedInIsUndone) {
    for (const auto* step : {"bridge", "rules", "server"}) {
        boot();
        const auto lan = define_network(nat("lan"));
        fake.hang = step;
        const auto start = lan->start(caller);
        ASSERT_TRUE(until([&] { return fake.hangs(); }));
        room.reset();
        fake.let_go();
        EXPECT_TRUE(fake_host.bridges.contains("br50"));
        boot();
        EXPECT_FALSE(network("lan")->view().active) << step;
        EXPECT_TRUE(fake_host.bridges.empty()) << step;
        EXPECT_FALSE(exists(state_path("lan"))) << step;
        EXPECT_EQ(fake.count("adopt lan"), 0u);
    }
}

TEST_F(Restart, AStopThatADaemonDiedInIsFinished) {
    boot();
    const auto lan = active("lan");
    fake.hang = "stop";
    const auto stop = lan->stop(caller);
    ASSERT_TRUE(until([&] { return fake.hangs(); }));
    room.reset();
    fake.let_go();
    boot();
    EXPECT_FALSE(network("lan")->view().active);
    EXPECT_TRUE(fake_host.bridges.empty());
    EXPECT_FALSE(exists(state_path("lan")));
}

TEST_F(Restart, ATransientOneThatIsGoneIsForgotten) {
    boot();
    create_network(nat("tmp"));
    room.reset();
    fake_host.bridges.clear();
    boot();
    EXPECT_EQ(networks().size(), 0u);
    EXPECT_FALSE(exists(state_path("tmp")));
}

TEST_F(Restart, OneOfAnotherBootIsUndoneAndForgotten) {
    boot();
    active("lan");
    ports->boot_id = "boot-2";
    boot();
    EXPECT_FALSE(network("lan")->view().active);
    EXPECT_EQ(fake.count("adopt lan"), 0u);
    EXPECT_EQ(fake.count("undo lan"), 1u);
    EXPECT_FALSE(exists(state_path("lan")));
}

TEST_F(Restart, ARecordThatCannotBeReadStopsOnlyItsNetwork) {
    boot();
    active("lan");
    active("wan", 51);
    write(state_path("lan"), "<networkstatus");
    boot();
    EXPECT_FALSE(network("lan")->view().active);
    EXPECT_TRUE(network("wan")->view().active);
    EXPECT_FALSE(exists(state_path("lan")));
    EXPECT_EQ(read(state_path("lan") + ".rejected"), "<networkstatus");
    EXPECT_TRUE(log.says("lan.xml.rejected"));
}

TEST_F(Restart, ARecordUnderAnotherNameIsRejected) {
    boot();
    active("lan");
    write(state_path("other"), read(state_path("lan")));
    boot();
    EXPECT_TRUE(network("lan")->view().active);
    EXPECT_TRUE(exists(state_path("other") + ".rejected"));
}

TEST_F(Restart, OneThatCannotBeTakenUpWaitsForSomebodyToDecide) {
    boot();
    active("lan");
    fake.fail = "adopt";
    boot();
    const auto lan = network("lan");
    EXPECT_FALSE(lan->view().active);
    EXPECT_NE(lan->view().problem.find("adopt"), std::string::npos) << lan->view().problem;
    EXPECT_TRUE(fake_host.bridges.contains("br50"));
    EXPECT_TRUE(exists(state_path("lan")));
    fake.fail.clear();
    finish(lan->start(caller));
    EXPECT_EQ(fake.count("undo lan"), 1u);
    EXPECT_TRUE(lan->view().active);
    EXPECT_EQ(lan->view().problem, "");
    fake.fail = "adopt";
    boot();
    fake.fail.clear();
    stop_network("lan");
    EXPECT_TRUE(fake_host.bridges.empty());
    EXPECT_FALSE(exists(state_path("lan")));
    EXPECT_EQ(network("lan")->view().problem, "");
}

TEST_F(Restart, ATakingUpThatHangsHoldsNobody) {
    patience.adopt = Duration{50};
    boot();
    active("lan");
    fake.hang = "adopt";
    boot();
    EXPECT_FALSE(network("lan")->view().active);
    fake.let_go();
    EXPECT_TRUE(until([&] { return network("lan")->view().active; }));
}

TEST_F(Restart, WhatADaemonCannotTakeUpWithoutADriverIsKept) {
    boot();
    active("lan");
    network_driver = nullptr;
    boot();
    EXPECT_FALSE(network("lan")->view().active);
    network_driver = &fake;
    boot();
    EXPECT_TRUE(network("lan")->view().active);
}

// ---- older layouts

TEST_F(Restart, AnOlderLayoutOfAnActiveNetworkMovesAndIsTakenUp) {
    fake_host.bridges["br50"];
    boot();
    define_network(nat("lan"));
    write(old_path("lan"), older("lan", 50, "0-4", 300));
    boot();
    EXPECT_TRUE(network("lan")->view().active);
    EXPECT_TRUE(left_in_old_place().empty());
    const auto state = state_of("lan");
    EXPECT_EQ(state.boot_id, "boot-1");
    EXPECT_EQ(state.class_ids, (std::vector<std::uint32_t>{3, 4}));
    EXPECT_EQ(state.floor_sum, 300u);
    boot();
    EXPECT_TRUE(network("lan")->view().active);
    EXPECT_EQ(state_of("lan").floor_sum, 300u);
    stop_network("lan");
    EXPECT_TRUE(fake_host.bridges.empty());
}

TEST_F(Restart, ABareNetworkInTheOldPlaceIsTransientWhenNothingIsStored) {
    fake_host.bridges["br50"];
    write(old_path("tmp"), nat("tmp"));
    boot();
    EXPECT_TRUE(network("tmp")->view().active);
    EXPECT_FALSE(network("tmp")->view().persistent);
}

TEST_F(Restart, AnOlderLayoutWithoutItsBridgeIsRemoved) {
    boot();
    define_network(nat("lan"));
    write(old_path("lan"), older("lan", 50));
    boot();
    EXPECT_FALSE(network("lan")->view().active);
    EXPECT_TRUE(left_in_old_place().empty());
    EXPECT_FALSE(exists(state_path("lan")));
}

TEST_F(Restart, AnOlderLayoutFromBeforeTheBootIsUndone) {
    fake_host.bridges["br50"];
    boot();
    write(old_path("lan"), older("lan", 50));
    age(old_path("lan"));
    boot();
    EXPECT_EQ(networks().size(), 0u);
    EXPECT_TRUE(left_in_old_place().empty());
    EXPECT_EQ(fake.count("undo lan"), 1u);
}

TEST_F(Restart, TheRuntimePlaceWinsAndTheOldFileIsKeptAside) {
    boot();
    active("lan");
    write(old_path("lan"), older("lan", 50, "0-4", 300));
    boot();
    EXPECT_TRUE(network("lan")->view().active);
    EXPECT_EQ(state_of("lan").floor_sum, 0u);
    EXPECT_EQ(left_in_old_place(), Names{"lan.xml.rejected"});
}

TEST_F(Restart, AnOldFileThatCannotBeReadStopsOnlyItsNetwork) {
    fake_host.bridges["br50"];
    boot();
    write(old_path("bad"), "<networkstatus><network>");
    write(old_path("lan"), older("lan", 50));
    boot();
    EXPECT_TRUE(network("lan")->view().active);
    EXPECT_EQ(left_in_old_place(), Names{"bad.xml.rejected"});
}

TEST_F(Restart, AMoveThatADaemonDiedInIsDoneByTheNext) {
    for (int steps = 0;; ++steps) {
        fake_host.bridges["br50"];
        boot();
        write(old_path("lan"), older("lan", 50));
        files.steps_left = steps;
        bool whole = true;
        try {
            boot();
        } catch (const std::exception&) {
            whole = false;
        }
        whole = whole && room->networks().find_by_name("lan") && left_in_old_place().empty();
        room.reset();
        files.steps_left = -1;
        boot();
        EXPECT_TRUE(network("lan")->view().active) << steps;
        stop_network("lan");
        std::filesystem::remove_all(root + "/state/network");
        if (whole) {
            EXPECT_GE(steps, 2);
            break;
        }
        ASSERT_LT(steps, 10);
    }
}

TEST_F(Restart, AFullFolderLeavesTheOldFile) {
    fake_host.bridges["br50"];
    boot();
    write(old_path("lan"), older("lan", 50));
    files.full = true;
    boot();
    EXPECT_TRUE(exists(old_path("lan")));
    files.full = false;
    boot();
    EXPECT_TRUE(network("lan")->view().active);
}

// ---- the domain's own side

TEST_F(Restart, AGuestWhoseDaemonDiedInItsStartGivesItsPlaceBack) {
    boot();
    active("lan");
    const auto web = define(xml("web", "hang-start='yes'", "", card("lan")));
    const auto start = web->start({}, caller);
    ASSERT_TRUE(until([&] { return !taps.open.empty(); }));
    boot();
    EXPECT_EQ(get("web")->view().state, State::shutoff);
    EXPECT_TRUE(taps.open.empty());
    EXPECT_TRUE(state_of("lan").ports.empty());
}

}  // namespace
}  // namespace virtbus::tests
