// SPDX-License-Identifier: LGPL-2.1-or-later
// The daemon's own end and return: what ran runs on, what was stored is there, and a second daemon keeps off.
#include "tests/bus/user_bed.hpp"

namespace virtbus::tests {
namespace {

using ::testing::HasSubstr;

struct Restart : ::testing::Test {
    DaemonBed bed{false};
    std::unique_ptr<Client> client;

    void begin(std::vector<std::string> arguments = {}) {
        client.reset();
        ASSERT_TRUE(bed.start(std::move(arguments))) << read_file(bed.log());
        client = bed.connect();
    }
    std::string state(const std::string& path) { return property(*client, path, domain, "State"); }
    /// All there is to see of a domain, but for what a restart may change: since when it is inactive.
    std::string look(const std::string& path) {
        std::istringstream lines{Client::print(client->call(path, properties, "GetAll", "s", domain))};
        std::string all;
        const bool inactive = state(path) == "shutoff";
        int since = 0;  // lines until the value has gone by
        for (std::string line; std::getline(lines, line); since--) {
            if (inactive && line.find("\"StateChanged\"") != std::string::npos) since = 3;
            if (since <= 0) all += line + "\n";
        }
        return all;
    }
    Answer verb(const std::string& path, const char* member) { return client->call(path, domain, member, "a{sv}", 0); }
};

TEST_F(Restart, GuestsOutliveTheDaemonHoweverItEnds) {
    begin();
    const std::string stored = define(*client, "stored"), running = define(*client, "running");
    const std::string transient =
        text_of(client->call(root, manager, "CreateDomain", "sa{sv}", test_xml("transient").c_str(), 0));
    ASSERT_EQ(text_of(verb(running, "Start")), "/");
    ASSERT_TRUE(client->call(stored, domain, "SetAutostart", "ba{sv}", 1, 0).ok());
    for (const int signal : {SIGTERM, SIGKILL, SIGTERM}) {
        const std::string before = look(stored) + look(running) + look(transient);
        ASSERT_THAT(before, HasSubstr("running"));
        EXPECT_EQ(bed.stop(signal), signal == SIGKILL ? 128 + SIGKILL : 0) << read_file(bed.log());
        begin();
        EXPECT_EQ(look(stored) + look(running) + look(transient), before);
    }
    EXPECT_EQ(text_of(verb(transient, "Stop")), "/");
    EXPECT_EQ(state(transient), "org.freedesktop.DBus.Error.UnknownObject");
    EXPECT_EQ(text_of(verb(running, "Stop")), "/");
    EXPECT_EQ(bed.stop(), 0);
}

TEST_F(Restart, AGuestThatCannotBeTakenUpIsNoLongerRunning) {
    begin();
    const std::string path = define(*client, "lost", "fail-adopt='yes'");
    ASSERT_EQ(text_of(verb(path, "Start")), "/");
    bed.stop(SIGKILL);
    begin();
    EXPECT_NE(state(path), "running");
    EXPECT_EQ(property(*client, path, domain, "Name"), "lost");
    EXPECT_EQ(bed.stop(), 0);
}

TEST_F(Restart, WhatDiesWithItsCallerOutlivesTheDaemonButNotTheCaller) {
    begin();
    auto caller = bed.connect();
    const std::string path = text_of(
        caller->call(root, manager, "CreateDomain", "sa{sv}", test_xml("mortal").c_str(), 1, "autodestroy", "b", 1));
    bed.stop(SIGKILL);
    begin();
    EXPECT_EQ(state(path), "running");
    caller.reset();
    EXPECT_TRUE(
        bed.loop.run_until([&] { return state(path) == "org.freedesktop.DBus.Error.UnknownObject"; }, patience));
    EXPECT_EQ(bed.stop(), 0);
}

TEST_F(Restart, WhatWasBeingDoneIsNotHalfDone) {
    begin();
    const std::string path = define(*client, "half", "hang-start='yes'");
    (void)client->start(path, domain, "Start", "a{sv}", 0);
    ASSERT_TRUE(bed.loop.run_until([&] { return state(path) == "starting"; }, patience));
    bed.stop(SIGKILL);
    begin();
    EXPECT_EQ(state(path), "shutoff");
    EXPECT_EQ(bed.stop(), 0);
}

TEST_F(Restart, ASecondDaemonKeepsOff) {
    begin();
    const std::string path = define(*client, "kept");
    Process second{
        {VIRTBUSD, "--user", "--plain-guests"}, bed.environment(), bed.folder / "second", bed.folder / "second"};
    EXPECT_EQ(second.wait(), 1);
    EXPECT_THAT(read_file(bed.folder / "second"), HasSubstr("org.virtbus1"));
    EXPECT_EQ(state(path), "shutoff");
    const auto peer = bed.connect_to("unix:path=" + bed.socket());
    EXPECT_EQ(property(*peer, path, domain, "Name"), "kept") << "nor does it take the socket away";
    EXPECT_EQ(bed.stop(), 0);
}

TEST_F(Restart, ItLeavesWhenNobodyNeedsIt) {
    begin({"--idle-exit", "1"});
    ASSERT_TRUE(client->call(root, "org.freedesktop.DBus.Peer", "Ping").ok());
    client.reset();
    EXPECT_EQ(bed.daemon->wait(), 0);
    bed.stop();
}

TEST_F(Restart, ItEndsWithTheBus) {
    DaemonBed short_lived{false};
    {
        auto bus = std::make_unique<PrivateDaemonBus>();
        auto environment = short_lived.environment();
        environment.insert(environment.begin(), "DBUS_SESSION_BUS_ADDRESS=" + bus->address());
        std::erase(environment, "DBUS_SESSION_BUS_ADDRESS=" + short_lived.bus.address());
        Client watcher{short_lived.loop, bus->address(), "org.freedesktop.DBus"};
        watcher.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s",
                     "type='signal',member='NameOwnerChanged',arg0='org.virtbus1'");
        short_lived.daemon = std::make_unique<Process>(std::vector<std::string>{VIRTBUSD, "--user", "--plain-guests"},
                                                       environment, short_lived.log(), short_lived.log());
        ASSERT_TRUE(short_lived.loop.run_until([&] { return DaemonBed::owned(watcher); }, patience));
        watcher.leave();
        bus.reset();
    }
    EXPECT_EQ(short_lived.daemon->wait(), 1);
    EXPECT_THAT(read_file(short_lived.log()), HasSubstr("the connection to the bus has ended"));
}

}  // namespace
}  // namespace virtbus::tests
