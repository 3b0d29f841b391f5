// SPDX-License-Identifier: LGPL-2.1-or-later
// Domains and jobs as a client sees them: the real daemon in user mode with domains that run nothing.
#include <sys/mman.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "tests/bus/user_bed.hpp"

namespace virtbus::tests {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct DomainsOnTheBus : SharedDaemon<DomainsOnTheBus> {
    static constexpr bool system_mode = false;

    std::string start_job(const std::string& path, const char* member = "Start") {
        return text_of(client.call(path, domain, member, "a{sv}", 1, "no-wait", "b", 1));
    }
};

TEST_F(DomainsOnTheBus, TheManagerSaysWhatItIs) {
    EXPECT_EQ(property(client, root, manager, "Mode"), "user");
    EXPECT_NE(property(client, root, manager, "Version"), "");
    EXPECT_THAT(property(client, root, manager, "Drivers"), HasSubstr("\"test\""));
    const std::string host = property(client, root, manager, "Host");
    for (const char* key : {"arch", "cpus", "memory", "hostname"}) EXPECT_THAT(host, HasSubstr(key));
}

TEST_F(DomainsOnTheBus, ALifeFromDefineToUndefine) {
    listen();
    const std::string path = define(client, "life");
    ASSERT_THAT(path, StartsWith("/org/virtbus1/domain/"));
    EXPECT_TRUE(has_heard(root, "InterfacesAdded")) << "before the answer";
    EXPECT_EQ(state(path), "shutoff");
    EXPECT_EQ(property(client, path, domain, "Persistent"), "1");
    EXPECT_EQ(text_of(client.call(root, manager, "GetDomain", "s", "life")), path);

    EXPECT_EQ(text_of(verb(path, "Start")), "/");
    EXPECT_EQ(state(path), "running");
    EXPECT_TRUE(has_heard(path, "StateChanged")) << "before the answer";
    EXPECT_TRUE(has_heard(path, "PropertiesChanged"));
    EXPECT_NE(property(client, path, domain, "StartedAt"), "0");
    EXPECT_TRUE(verb(path, "Suspend").ok());
    EXPECT_EQ(state(path), "paused");
    EXPECT_TRUE(verb(path, "Resume").ok());
    EXPECT_EQ(state(path), "running");
    EXPECT_TRUE(verb(path, "Reboot").ok());
    EXPECT_TRUE(run_until([&] { return has_heard(path, "Rebooted"); }));
    EXPECT_TRUE(verb(path, "Shutdown").ok());
    EXPECT_TRUE(run_until([&] { return state(path) == "shutoff"; }));
    EXPECT_EQ(text_of(verb(path, "Start")), "/");
    EXPECT_EQ(text_of(verb(path, "Stop")), "/");
    EXPECT_EQ(state(path), "shutoff");
    EXPECT_EQ(property(client, path, domain, "StateReason"), "destroyed");

    EXPECT_TRUE(verb(path, "Undefine").ok());
    EXPECT_TRUE(has_heard(root, "InterfacesRemoved")) << "before the answer";
    EXPECT_EQ(state(path), "org.freedesktop.DBus.Error.UnknownObject");
    EXPECT_EQ(verb(path, "Start").error, "org.freedesktop.DBus.Error.UnknownObject");
    EXPECT_EQ(client.call(root, manager, "GetDomain", "s", "life").error, error_prefix + "NoSuchDomain");
}

TEST_F(DomainsOnTheBus, WhatIsRemovedSaysNothingMore) {
    listen();
    const std::string path = text_of(client.call(root, manager, "CreateDomain", "sa{sv}",
                                                 test_xml("transient", "shutdown-delay-ms='0'").c_str(), 0));
    ASSERT_EQ(state(path), "running");
    EXPECT_EQ(property(client, path, domain, "Persistent"), "0");
    ASSERT_TRUE(verb(path, "Shutdown").ok());
    ASSERT_TRUE(run_until([&] { return has_heard(root, "InterfacesRemoved"); }));
    ASSERT_TRUE(client.call(root, "org.freedesktop.DBus.Peer", "Ping").ok());
    std::string last;
    for (const auto& one : client.signals)
        if (one.path == path || one.member == "InterfacesRemoved") last = one.member;
    EXPECT_EQ(last, "InterfacesRemoved");
}

TEST_F(DomainsOnTheBus, AllWaysToReadAgree) {
    const std::string path =
        define(client, "readings", "", "<title>A title</title><description>Much to say</description>");
    const Answer all = client.call(path, properties, "GetAll", "s", domain);
    const Answer objects = client.call(root, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
    ASSERT_TRUE(all.ok() && objects.ok());
    // The lines of one dump must be found in the other, one after another.
    std::istringstream lines{Client::print(all)};
    const std::string tree = Client::print(objects);
    std::size_t at = tree.find('"' + path + '"');
    ASSERT_NE(at, std::string::npos);
    int values = 0;
    for (std::string line; std::getline(lines, line);) {
        const std::size_t begin = line.find_first_not_of(' ');
        const std::size_t quote = line.find('"');
        if (begin == std::string::npos ||
            (quote == std::string::npos && line.find_first_of("0123456789") == std::string::npos))
            continue;
        const std::string value = line.substr(begin, line.find_last_not_of(" ;") + 1 - begin);
        if (value.starts_with("ARRAY") || value.starts_with("DICT") || value.starts_with("MESSAGE")) continue;
        const std::size_t found = tree.find(value, at);
        ASSERT_NE(found, std::string::npos) << value;
        at = found;
        values++;
    }
    EXPECT_GT(values, 60);
    const char* name = nullptr;
    std::set<std::string> names;
    sd_bus_message_rewind(all.body.get(), 1);
    sd_bus_message_enter_container(all.body.get(), 'a', "{sv}");
    while (sd_bus_message_enter_container(all.body.get(), 'e', "sv") > 0) {
        sd_bus_message_read(all.body.get(), "s", &name);
        names.insert(name);
        sd_bus_message_skip(all.body.get(), "v");
        sd_bus_message_exit_container(all.body.get());
    }
    EXPECT_EQ(names.size(), 32u);
    for (const auto& one : names) {
        const Answer got = client.call(path, properties, "Get", "ss", domain, one.c_str());
        ASSERT_TRUE(got.ok()) << one;
        // What the one variant holds stands in the dump of all.
        std::istringstream parts{Client::print(got)};
        for (std::string line; std::getline(parts, line);) {
            const std::size_t begin = line.find_first_not_of(' ');
            if (begin == std::string::npos || line.find('"') == std::string::npos) continue;
            EXPECT_THAT(Client::print(all), HasSubstr(line.substr(begin))) << one;
        }
    }
}

TEST_F(DomainsOnTheBus, TheListComesInPages) {
    for (const char* name : {"page-1", "page-2", "page-3"}) define(client, name);
    std::string after;
    std::set<std::string> seen;
    for (;;) {
        const Answer page =
            client.call(root, manager, "ListDomains", "a{sv}", 2, "after", "s", after.c_str(), "limit", "u", 2u);
        ASSERT_TRUE(page.ok()) << page.message;
        sd_bus_message_enter_container(page.body.get(), 'a', "(osssb)");
        const char *path = nullptr, *name = nullptr, *uuid = nullptr, *state = nullptr;
        int persistent = 0, rows = 0;
        while (sd_bus_message_read(page.body.get(), "(osssb)", &path, &name, &uuid, &state, &persistent) > 0) {
            EXPECT_LT(after, uuid) << "in the order of their uuids";
            EXPECT_TRUE(seen.insert(name).second);
            after = uuid;
            rows++;
        }
        EXPECT_LE(rows, 2);
        if (!rows) break;
    }
    for (const char* name : {"page-1", "page-2", "page-3"}) EXPECT_TRUE(seen.contains(name));
}

TEST_F(DomainsOnTheBus, AJobCanBeWatchedAndCancelled) {
    listen();
    const std::string path = define(client, "slow", "hang-start='yes'");
    const std::string started = start_job(path);
    ASSERT_THAT(started, StartsWith("/org/virtbus1/job/"));
    EXPECT_EQ(property(client, started, job, "Operation"), "start");
    EXPECT_EQ(property(client, started, job, "State"), "running");
    EXPECT_EQ(property(client, started, job, "StartedByUID"), std::to_string(::getuid()));
    EXPECT_THAT(property(client, started, job, "Objects"), HasSubstr(path));
    EXPECT_THAT(property(client, path, domain, "Jobs"), HasSubstr(started));
    EXPECT_EQ(state(path), "starting");
    EXPECT_TRUE(client.call(started, job, "Cancel", "a{sv}", 0).ok());
    ASSERT_TRUE(run_until([&] { return has_heard(started, "Completed"); }));
    EXPECT_EQ(property(client, started, job, "State"), "cancelled");
    EXPECT_EQ(property(client, started, job, "ErrorName"), error_prefix + "Cancelled");
    EXPECT_EQ(state(path), "shutoff");
    EXPECT_THAT(property(client, path, domain, "Jobs"), Not(HasSubstr(started)));
    EXPECT_EQ(client.call(started, job, "Cancel", "a{sv}", 0).error, error_prefix + "InvalidState");
}

TEST_F(DomainsOnTheBus, ACancelledVerbTellsItsCaller) {
    const std::string path = define(client, "waited-for", "hang-start='yes'");
    auto waiting = client.start(path, domain, "Start", "a{sv}", 0);
    std::string started;
    ASSERT_TRUE(run_until([&] {
        const std::string jobs = property(client, path, domain, "Jobs");
        const std::size_t at = jobs.find("/org/virtbus1/job/");
        if (at != std::string::npos) started = jobs.substr(at, jobs.find('"', at) - at);
        return !started.empty();
    }));
    EXPECT_FALSE(waiting.finished());
    EXPECT_TRUE(client.call(started, job, "Cancel", "a{sv}", 0).ok());
    EXPECT_EQ(waiting.wait().error, error_prefix + "Cancelled");
}

TEST_F(DomainsOnTheBus, AFailureIsTheAnswerOrInTheJob) {
    listen();
    const std::string path = define(client, "broken", "fail-start='no power'");
    const Answer answer = verb(path, "Start");
    EXPECT_THAT(answer.error, StartsWith(error_prefix));
    EXPECT_THAT(answer.message, HasSubstr("no power"));
    EXPECT_EQ(state(path), "shutoff");
}

TEST_F(DomainsOnTheBus, StopGetsPastWhateverHoldsTheDomain) {
    const std::string path = define(client, "stuck", "hang-verbs='yes'");
    ASSERT_EQ(text_of(verb(path, "Start")), "/");
    auto hanging = client.start(path, domain, "Suspend", "a{sv}", 0);
    auto queued = client.start(path, domain, "Resume", "a{sv}", 0);
    EXPECT_EQ(state(path), "running") << "reading waits for nobody";
    EXPECT_TRUE(client.call(path, domain, "GetXML", "a{sv}", 0).ok());
    EXPECT_EQ(text_of(verb(path, "Stop")), "/");
    EXPECT_EQ(state(path), "shutoff");
    EXPECT_FALSE(hanging.wait().ok());
    EXPECT_FALSE(queued.wait().ok());
}

TEST_F(DomainsOnTheBus, AStartThatHangsIsStopped) {
    const std::string path = define(client, "start-stuck", "hang-start='yes'");
    auto hanging = client.start(path, domain, "Start", "a{sv}", 0);
    ASSERT_TRUE(run_until([&] { return state(path) == "starting"; }));
    (void)verb(path, "Stop");
    EXPECT_FALSE(hanging.wait().ok());
    EXPECT_EQ(state(path), "shutoff");
}

TEST_F(DomainsOnTheBus, StatisticsOfAHungGuestAreStale) {
    const std::string path = define(client, "silent", "unresponsive='yes'");
    ASSERT_EQ(text_of(verb(path, "Start")), "/");
    const Answer stats = client.call(path, domain, "GetStats", "a{sv}", 0);
    ASSERT_TRUE(stats.ok()) << stats.message;
    EXPECT_THAT(Client::print(stats), HasSubstr("stale"));
    EXPECT_THAT(Client::print(stats), HasSubstr("BOOLEAN true"));
    const Answer all = client.call(root, manager, "GetStats", "a{sv}", 1, "states", "as", 1, "running");
    ASSERT_TRUE(all.ok()) << all.message;
    EXPECT_THAT(Client::print(all), HasSubstr(path));
    ASSERT_EQ(text_of(verb(path, "Stop")), "/");
    EXPECT_THAT(Client::print(client.call(root, manager, "GetStats", "a{sv}", 1, "states", "as", 1, "running")),
                Not(HasSubstr(path)));
}

TEST_F(DomainsOnTheBus, AutodestroyFollowsItsCaller) {
    listen();
    auto leaver = bed().connect();
    const std::string path = text_of(
        leaver->call(root, manager, "CreateDomain", "sa{sv}", test_xml("mortal").c_str(), 1, "autodestroy", "b", 1));
    const std::string stays =
        text_of(leaver->call(root, manager, "CreateDomain", "sa{sv}", test_xml("immortal").c_str(), 0));
    ASSERT_EQ(state(path), "running");
    leaver.reset();
    EXPECT_TRUE(run_until([&] { return state(path) == "org.freedesktop.DBus.Error.UnknownObject"; }));
    EXPECT_EQ(state(stays), "running");
    EXPECT_EQ(text_of(verb(stays, "Stop")), "/");
}

TEST_F(DomainsOnTheBus, ACallerThatLeavesDoesNotCancel) {
    const std::string path = define(client, "goes-on", "start-delay-ms='50'");
    auto leaver = bed().connect();
    (void)leaver->start(path, domain, "Start", "a{sv}", 0);
    ASSERT_TRUE(run_until([&] { return state(path) == "starting"; }));
    leaver.reset();
    EXPECT_TRUE(run_until([&] { return state(path) == "running"; }));
}

TEST_F(DomainsOnTheBus, WorkIsDoneWithoutAnAnswer) {
    const std::string path = define(client, "unanswered");
    const auto message = client.make(path, domain, "Start");
    sd_bus_message_append(message.get(), "a{sv}", 0);
    sd_bus_message_set_expect_reply(message.get(), 0);
    sd_bus_send(client.bus(), message.get(), nullptr);
    EXPECT_TRUE(run_until([&] { return state(path) == "running"; }));
}

TEST_F(DomainsOnTheBus, ConsolesAreGivenToOneAtATime) {
    const std::string path = define(client, "console", "", "<devices><console type='pty'/></devices>");
    ASSERT_EQ(text_of(verb(path, "Start")), "/");
    const Answer first = client.call(path, domain, "OpenConsole", "sa{sv}", "", 0);
    ASSERT_TRUE(first.ok()) << first.error << first.message;
    int fd = -1;
    ASSERT_GE(sd_bus_message_read(first.body.get(), "h", &fd), 0);
    ASSERT_EQ(::write(fd, "echo", 4), 4);
    std::string echo;
    char text[64];
    for (ssize_t size; echo.find("echo") == std::string::npos && (size = ::read(fd, text, sizeof text)) > 0;)
        echo.append(text, static_cast<std::size_t>(size));
    EXPECT_THAT(echo, HasSubstr("echo"));
    EXPECT_EQ(client.call(path, domain, "OpenConsole", "sa{sv}", "", 0).error, error_prefix + "DeviceInUse");
    EXPECT_TRUE(client.call(path, domain, "OpenConsole", "sa{sv}", "", 1, "force", "b", 1).ok());
    EXPECT_EQ(client.call(path, domain, "OpenConsole", "sa{sv}", "nothing", 0).error, error_prefix + "NoSuchDevice");
}

TEST_F(DomainsOnTheBus, AScreenshotIsASealedFile) {
    const std::string path = define(client, "screen", "", "<devices><video><model type='vga'/></video></devices>");
    ASSERT_EQ(text_of(verb(path, "Start")), "/");
    const Answer answer = client.call(path, domain, "Screenshot", "ua{sv}", 0u, 0);
    ASSERT_TRUE(answer.ok()) << answer.error << answer.message;
    int fd = -1;
    const char* type = nullptr;
    ASSERT_GE(sd_bus_message_read(answer.body.get(), "hs", &fd, &type), 0);
    EXPECT_STREQ(type, "image/png");
    char magic[4] = {};
    EXPECT_EQ(::read(fd, magic, 4), 4);
    EXPECT_EQ(std::string_view(magic, 4), "\x89PNG");
    EXPECT_TRUE(::fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE);
}

TEST_F(DomainsOnTheBus, MemoryNameAndMetadataCanBeChanged) {
    const std::string path = define(client, "changing");
    EXPECT_TRUE(client.call(path, domain, "SetMemory", "ta{sv}", std::uint64_t{32} << 20, 0).ok());
    EXPECT_EQ(property(client, path, domain, "Memory"), std::to_string(std::uint64_t{32} << 20));
    EXPECT_TRUE(client.call(path, domain, "SetVCpus", "ua{sv}", 3u, 1, "maximum", "b", 1).ok());
    EXPECT_EQ(property(client, path, domain, "MaxVCpus"), "3");
    EXPECT_TRUE(client.call(path, domain, "SetAutostart", "ba{sv}", 1, 0).ok());
    EXPECT_EQ(property(client, path, domain, "Autostart"), "1");
    EXPECT_TRUE(client.call(path, domain, "SetMetadata", "ssssa{sv}", "title", "", "", "A new title", 0).ok());
    EXPECT_EQ(property(client, path, domain, "Title"), "A new title");
    EXPECT_EQ(text_of(client.call(path, domain, "GetMetadata", "ssa{sv}", "title", "", 0)), "A new title");
    EXPECT_TRUE(client.call(path, domain, "Rename", "sa{sv}", "changed", 0).ok());
    EXPECT_EQ(property(client, path, domain, "Name"), "changed");
    EXPECT_EQ(text_of(client.call(root, manager, "GetDomain", "s", "changed")), path);
}

TEST_F(DomainsOnTheBus, ADefinitionCanBeChecked) {
    const Answer answer = client.call(root, manager, "CheckDomain", "sa{sv}",
                                      test_xml("checked", "", "<unheard-of/>").c_str(), 1, "runnable", "b", 1);
    ASSERT_TRUE(answer.ok()) << answer.message;
    const std::string text = Client::print(answer);
    EXPECT_THAT(text, HasSubstr("unheard-of"));
    EXPECT_EQ(client.call(root, manager, "GetDomain", "s", "checked").error, error_prefix + "NoSuchDomain");
}

TEST_F(DomainsOnTheBus, CapabilitiesAreXml) {
    EXPECT_THAT(text_of(client.call(root, manager, "GetCapabilities", "s", "test")), HasSubstr("<capabilities"));
    EXPECT_THAT(text_of(client.call(root, manager, "GetDomainCapabilities", "a{sv}", 1, "driver", "s", "test")),
                HasSubstr("<domainCapabilities"));
    EXPECT_THAT(client.call(root, manager, "GetCapabilities", "s", "none").error, StartsWith(error_prefix));
}

TEST_F(DomainsOnTheBus, OrphanedVariableStoresAreListedAndDeleted) {
    const std::string store = bed().folder / "STATE/nvram/left_VARS.fd";
    std::ofstream{store} << "vars";
    std::ofstream{store + ".domain"} << "web";
    const std::string rows = Client::print(client.call(root, manager, "ListOrphanedNVRAM"));
    EXPECT_THAT(rows, HasSubstr("left_VARS.fd"));
    EXPECT_THAT(rows, HasSubstr("web"));
    const auto remove = [&](const std::string& path) {
        return client.call(root, manager, "DeleteOrphanedNVRAM", "sa{sv}", path.c_str(), 0);
    };
    EXPECT_EQ(remove("/etc/passwd").error, "org.freedesktop.DBus.Error.InvalidArgs");
    EXPECT_EQ(remove(store).error, "");
    EXPECT_FALSE(std::filesystem::exists(store));
    EXPECT_EQ(remove(store).error, "org.freedesktop.DBus.Error.InvalidArgs");
}

TEST_F(DomainsOnTheBus, UndefineChecksItsOptions) {
    const std::string path = define(client, "kept");
    EXPECT_EQ(client.call(path, domain, "Undefine", "a{sv}", 2, "nvram", "b", 1, "keep-nvram", "b", 1).error,
              error_prefix + "ConflictingOptions");
    EXPECT_EQ(state(path), "shutoff");
    EXPECT_EQ(text_of(verb(path, "Start")), "/");
    EXPECT_TRUE(verb(path, "Undefine").ok());
    EXPECT_EQ(property(client, path, domain, "Persistent"), "0");
    EXPECT_EQ(state(path), "running");
    EXPECT_EQ(text_of(verb(path, "Stop")), "/");
    EXPECT_EQ(state(path), "org.freedesktop.DBus.Error.UnknownObject");
}

}  // namespace
}  // namespace virtbus::tests
