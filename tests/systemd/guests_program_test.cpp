// SPDX-License-Identifier: LGPL-2.1-or-later
// virtbus-guests as a program, against a stand-in for virtbusd on a bus of the test's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sdbus-c++/sdbus-c++.h>

#include <set>

#include "tests/support/private_bus.hpp"

namespace virtbus::systemd {
namespace {

using ::testing::ElementsAre;
using Options = std::map<std::string, sdbus::Variant>;

/// A domain that obeys some verbs at once and is deaf to the others.
struct FakeDomain {
    FakeDomain(sdbus::IConnection& connection, std::string domain, std::string first, std::set<std::string> obeyed)
        : name{std::move(domain)},
          state{std::move(first)},
          obeys{std::move(obeyed)},
          object{sdbus::createObject(connection, "/org/virtbus1/domain/" + name)} {
        const std::string interface{"org.virtbus1.Domain"};
        const auto property = [&](const char* word, auto getter) {
            object->registerProperty(word).onInterface(interface).withGetter(getter);
        };
        property("Name", [this] { return name; });
        property("UUID", [this] { return "uuid-of-" + name; });
        property("State", [this] { return state; });
        const auto take = [this](const char* verb) {
            asked.emplace_back(verb);
            if (!obeys.contains(verb)) return;
            const auto old = std::exchange(state, std::string{verb} == "Resume" ? "running" : "shutoff");
            object->emitSignal("StateChanged")
                .onInterface("org.virtbus1.Domain")
                .withArguments(old, state, std::string{});
        };
        for (const auto* verb : {"Shutdown", "Resume"})
            object->registerMethod(verb).onInterface(interface).implementedAs([=](const Options&) { take(verb); });
        for (const auto* verb : {"ManagedSave", "Stop"})
            object->registerMethod(verb).onInterface(interface).implementedAs([=, this](const Options&) {
                take(verb);
                if (!obeys.contains(verb)) throw sdbus::Error{"org.virtbus1.Error.InvalidState", "not this one"};
                return sdbus::ObjectPath{"/"};
            });
        object->registerSignal("StateChanged")
            .onInterface(interface)
            .withParameters<std::string, std::string, std::string>();
        object->finishRegistration();
    }
    std::string name, state;
    std::set<std::string> obeys;
    std::vector<std::string> asked;
    std::unique_ptr<sdbus::IObject> object;
};

struct GuestsProgramTest : ::testing::Test {
    GuestsProgramTest() : connection{sdbus::createSystemBusConnection("org.virtbus1")} {
        manager = sdbus::createObject(*connection, "/org/virtbus1");
        manager->addObjectManager();
    }
    ~GuestsProgramTest() override { connection->leaveEventLoop(); }

    FakeDomain& add(const std::string& name, const std::string& state, std::set<std::string> obeys) {
        domains.push_back(std::make_unique<FakeDomain>(*connection, name, state, std::move(obeys)));
        return *domains.back();
    }
    int run(const std::string& settings) {
        std::ofstream{folder / "guests.conf"} << settings;
        connection->enterEventLoopAsync();
        std::string program{GUESTS}, file{folder / "guests.conf"};
        char* argv[]{program.data(), file.data(), nullptr};
        pid_t pid = -1;
        EXPECT_EQ(::posix_spawn(&pid, program.c_str(), nullptr, nullptr, argv, environ), 0);
        int status = -1;
        ::waitpid(pid, &status, 0);
        connection->leaveEventLoop();
        return WEXITSTATUS(status);
    }

    tests::PrivateBus bus;
    tests::TemporaryFolder folder;
    std::unique_ptr<sdbus::IConnection> connection;
    std::unique_ptr<sdbus::IObject> manager;
    std::vector<std::unique_ptr<FakeDomain>> domains;
};

TEST_F(GuestsProgramTest, EachRunningGuestGetsItsVerb) {
    auto& web = add("web", "running", {"Shutdown"});
    auto& db = add("db", "running", {"ManagedSave"});
    auto& tmp = add("tmp", "running", {"Stop"});
    auto& off = add("off", "shutoff", {});
    EXPECT_EQ(run("[Domain uuid-of-db]\nOnStop=save\n[Domain tmp]\nOnStop=stop\n"), 0);
    EXPECT_THAT(web.asked, ElementsAre("Shutdown"));
    EXPECT_THAT(db.asked, ElementsAre("ManagedSave"));
    EXPECT_THAT(tmp.asked, ElementsAre("Stop"));
    EXPECT_THAT(off.asked, ElementsAre());
}

TEST_F(GuestsProgramTest, WhatCannotBeSavedIsShutDown) {
    auto& web = add("web", "running", {"Shutdown"});
    EXPECT_EQ(run("[Guests]\nOnStop=save\n"), 0);
    EXPECT_THAT(web.asked, ElementsAre("ManagedSave", "Shutdown"));
}

TEST_F(GuestsProgramTest, APausedGuestIsWokenToHearTheButton) {
    auto& web = add("web", "paused", {"Resume", "Shutdown"});
    EXPECT_EQ(run(""), 0);
    EXPECT_THAT(web.asked, ElementsAre("Resume", "Shutdown"));
}

TEST_F(GuestsProgramTest, WhoIsDeafIsStoppedInTheEnd) {
    auto& web = add("web", "running", {"Stop"});
    EXPECT_EQ(run("[Guests]\nTimeoutSec=1\n"), 0);
    EXPECT_THAT(web.asked, ElementsAre("Shutdown", "Stop"));
}

TEST_F(GuestsProgramTest, NoGuestsIsNoWork) {
    EXPECT_EQ(run(""), 0);
}

}  // namespace
}  // namespace virtbus::systemd
