// SPDX-License-Identifier: LGPL-2.1-or-later
// Snapshots as a client sees them: the real daemon in user mode with domains that run nothing.
#include <fcntl.h>
#include <sys/mman.h>

#include "tests/bus/user_bed.hpp"

namespace virtbus::tests {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* snapshot = "org.virtbus1.Snapshot";
const std::string invalid_args = "org.freedesktop.DBus.Error.InvalidArgs";
constexpr int all_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

struct Snapshots : SharedDaemon<Snapshots> {
    static constexpr bool system_mode = false;

    /// The disk's file is there, empty, and stays so.
    std::string define_with_disk(const std::string& name, const std::string& behaviour = "") {
        const std::string file = bed().folder / (name + ".qcow2");
        std::ofstream{file};
        return define(client, name, behaviour,
                      "<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='" +
                          file + "'/><target dev='vda' bus='virtio'/></disk></devices>");
    }
    Answer create(const std::string& path, const std::string& name, const std::string& more = "") {
        return client.call(path, domain, "CreateSnapshot", "sa{sv}", xml(name, more).c_str(), 0);
    }
    static std::string xml(const std::string& name, const std::string& more = "") {
        return "<domainsnapshot><name>" + name + "</name>" + more + "</domainsnapshot>";
    }
    /// What a snapshot that was taken elsewhere is put on record with.
    static std::string foreign(const std::string& name, const std::string& parent = "") {
        return xml(name, "<state>shutoff</state><creationTime>1700000000</creationTime>" +
                             (parent.empty() ? "" : "<parent><name>" + parent + "</name></parent>"));
    }
    std::string of(const std::string& path, const char* name) { return property(client, path, snapshot, name); }
    std::string objects(const std::string& path) {
        return Client::print(client.call(path, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"));
    }
    std::string import(const std::string& path, const Fd& file) {
        const Answer answer = client.call(path, domain, "ImportSnapshots", "ha{sv}", file.get(), 0);
        return answer.ok() ? Client::print(answer) : answer.error + ": " + answer.message;
    }
    static Fd memory_file(const std::string& content, int seals = all_seals) {
        Fd file{::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
        EXPECT_EQ(::write(file.get(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
        if (seals) ::fcntl(file.get(), F_ADD_SEALS, seals);
        return file;
    }
    /// Path and member of what was heard at the domain or below it, jobs and the domain's own life left out.
    std::vector<std::string> story(const std::string& path) {
        EXPECT_TRUE(client.call(root, "org.freedesktop.DBus.Peer", "Ping").ok());
        std::vector<std::string> told;
        for (const auto& one : client.signals) {
            const bool below = one.path.starts_with(path + "/snapshot/");
            if (below || (one.path == path && one.member.starts_with("Interfaces")))
                told.push_back((below ? one.path.substr(path.size() + 10) + " " : "") + one.member);
        }
        client.signals.clear();
        return told;
    }
};

TEST_F(Snapshots, TheyComeAndGoWithTheirSignals) {
    const std::string path = define_with_disk("tree");
    listen();
    const Answer made = create(path, "one", "<description>The first</description>");
    const std::string one = text_of(made), two = path + "/snapshot/two";
    ASSERT_EQ(one, path + "/snapshot/one") << made.message;
    EXPECT_THAT(story(path), ElementsAre("InterfacesAdded")) << "before the answer";
    EXPECT_EQ(property(client, path, domain, "CurrentSnapshot"), one);
    EXPECT_EQ(of(one, "Name"), "one");
    EXPECT_EQ(of(one, "Description"), "The first");
    EXPECT_EQ(of(one, "Domain"), path);
    EXPECT_EQ(of(one, "Parent"), "/");
    EXPECT_EQ(of(one, "Current"), "1");
    EXPECT_EQ(of(one, "State"), "shutoff");
    EXPECT_EQ(of(one, "Kind"), "internal");
    EXPECT_EQ(of(one, "HasDomainXML"), "1");
    EXPECT_GT(std::stoull(of(one, "CreationTime")), 1'700'000'000'000'000u);

    ASSERT_EQ(text_of(create(path, "two")), two);
    EXPECT_THAT(story(path), ::testing::UnorderedElementsAre("InterfacesAdded", "one PropertiesChanged"));
    EXPECT_EQ(of(two, "Parent"), one);
    EXPECT_EQ(of(one, "Current"), "0");
    EXPECT_THAT(of(one, "Children"), HasSubstr(two));
    EXPECT_EQ(text_of(client.call(path, domain, "GetSnapshot", "s", "two")), two);
    EXPECT_THAT(text_of(client.call(two, snapshot, "GetXML", "a{sv}", 1, "secure", "b", 1)), HasSubstr("<domain "));
    EXPECT_THAT(objects(path), AllOf(HasSubstr(one), HasSubstr(two)));
    EXPECT_THAT(objects(root), ::testing::Not(HasSubstr("/snapshot/two\" {")));

    EXPECT_EQ(text_of(client.call(one, snapshot, "Delete", "a{sv}", 0)), "/");
    const auto told = story(path);
    EXPECT_THAT(told, ::testing::UnorderedElementsAre("InterfacesRemoved", "two PropertiesChanged"));
    EXPECT_EQ(of(two, "Parent"), "/");
    EXPECT_EQ(of(one, "Name"), "org.freedesktop.DBus.Error.UnknownObject");
    EXPECT_EQ(client.call(one, snapshot, "Revert", "a{sv}", 0).error, "org.freedesktop.DBus.Error.UnknownObject");
    EXPECT_EQ(client.call(path, domain, "GetSnapshot", "s", "one").error, error_prefix + "NoSuchSnapshot");
}

TEST_F(Snapshots, ARunningMachineGoesBack) {
    const std::string path = define_with_disk("back");
    ASSERT_EQ(text_of(verb(path, "Start")), "/");
    const std::string moment = text_of(create(path, "moment"));
    EXPECT_EQ(of(moment, "State"), "running");
    EXPECT_EQ(state(path), "running");
    ASSERT_TRUE(verb(path, "Suspend").ok());
    EXPECT_EQ(text_of(client.call(moment, snapshot, "Revert", "a{sv}", 0)), "/");
    EXPECT_EQ(state(path), "running");
    EXPECT_EQ(text_of(client.call(moment, snapshot, "Revert", "a{sv}", 1, "paused", "b", 1)), "/");
    EXPECT_EQ(state(path), "paused");
    EXPECT_EQ(client.call(moment, snapshot, "Revert", "a{sv}", 2, "paused", "b", 1, "running", "b", 1).error,
              error_prefix + "ConflictingOptions");
    ASSERT_TRUE(verb(path, "Stop").ok());
}

TEST_F(Snapshots, WithoutRecordThereIsNoObject) {
    const std::string path = define_with_disk("unrecorded");
    EXPECT_EQ(
        text_of(client.call(path, domain, "CreateSnapshot", "sa{sv}", xml("none").c_str(), 1, "no-metadata", "b", 1)),
        "/");
    EXPECT_EQ(client.call(path, domain, "GetSnapshot", "s", "none").error, error_prefix + "NoSuchSnapshot");
}

TEST_F(Snapshots, WhatIsRefusedSaysWhy) {
    const std::string path = define_with_disk("refusals");
    const auto refused = [&](const char* option) {
        return client.call(path, domain, "CreateSnapshot", "sa{sv}", xml("x").c_str(), 1, option, "b", 1).error;
    };
    EXPECT_EQ(refused("colour"), error_prefix + "InvalidOption");
    EXPECT_EQ(refused("current"), error_prefix + "ConflictingOptions");
    EXPECT_EQ(refused("quiesce"), error_prefix + "ConflictingOptions");
    EXPECT_EQ(create(path, "a/b").error, error_prefix + "InvalidXML");
    EXPECT_EQ(client.call(path, domain, "CreateSnapshot", "sa{sv}", "<domain/>", 0).error, error_prefix + "InvalidXML");
    ASSERT_TRUE(create(path, "twice").ok());
    EXPECT_EQ(create(path, "twice").error, error_prefix + "AlreadyExists");
    EXPECT_EQ(verb(path, "Undefine").error, error_prefix + "HasSnapshots");
}

TEST_F(Snapshots, FaultsOfTheGuestAreToldAndLeaveNothing) {
    const std::string path = define_with_disk("faulty", "fail-snapshot='the test wants it'");
    ASSERT_EQ(text_of(verb(path, "Start")), "/");
    const Answer answer = create(path, "never");
    EXPECT_EQ(answer.error, error_prefix + "HypervisorFailed");
    EXPECT_THAT(answer.message, HasSubstr("the test wants it"));
    EXPECT_EQ(client.call(path, domain, "GetSnapshot", "s", "never").error, error_prefix + "NoSuchSnapshot");
    EXPECT_EQ(client
                  .call(path, domain, "CreateSnapshot", "sa{sv}", xml("quiet").c_str(), 2, "disk-only", "b", 1,
                        "quiesce", "b", 1)
                  .error,
              error_prefix + "AgentUnavailable");
    ASSERT_TRUE(verb(path, "Stop").ok());
}

TEST_F(Snapshots, OddNamesHavePaths) {
    const std::string path = define_with_disk("odd");
    const std::string greeting = text_of(create(path, "Grüße aus _Köln_"));
    EXPECT_EQ(greeting, path + "/snapshot/Gr_c3_bc_c3_9fe_20aus_20_5fK_c3_b6ln_5f");
    EXPECT_EQ(of(greeting, "Name"), "Grüße aus _Köln_");
    const std::string longest(255, '-');
    const std::string far = text_of(create(path, longest));
    ASSERT_THAT(far, StartsWith(path + "/snapshot/_2d_2d"));
    EXPECT_EQ(of(far, "Name"), longest);
    EXPECT_EQ(of(far, "Parent"), greeting);
    EXPECT_THAT(text_of(client.call(path + "/snapshot", "org.freedesktop.DBus.Introspectable", "Introspect")),
                HasSubstr(greeting.substr(path.size() + 10)));
}

TEST_F(Snapshots, TwoHundredAtOnce) {
    const std::string path = define_with_disk("many"), again = define_with_disk("again");
    std::string document = "<domainsnapshots>";
    for (int i = 0; i < 200; i++) document += foreign("s" + std::to_string(i), i ? "s" + std::to_string(i - 1) : "");
    document += "</domainsnapshots>";
    const std::string imported = import(path, memory_file(document));
    EXPECT_THAT(imported, HasSubstr(path + "/snapshot/s199"));
    const std::string all = objects(path);
    for (int i = 0; i < 200; i++) EXPECT_THAT(all, HasSubstr("\"" + path + "/snapshot/s" + std::to_string(i) + "\""));
    EXPECT_EQ(of(path + "/snapshot/s199", "Parent"), path + "/snapshot/s198");

    const Answer exported = client.call(path, domain, "ExportSnapshots", "a{sv}", 0);
    ASSERT_TRUE(exported.ok()) << exported.message;
    int fd = -1;
    ASSERT_GT(sd_bus_message_read_basic(exported.body.get(), 'h', &fd), 0);
    EXPECT_EQ(::fcntl(fd, F_GET_SEALS) & all_seals, all_seals);
    const Answer back = client.call(again, domain, "ImportSnapshots", "ha{sv}", fd, 0);
    EXPECT_TRUE(back.ok()) << back.message;
    EXPECT_THAT(objects(again), HasSubstr(again + "/snapshot/s199"));
}

TEST_F(Snapshots, AllAreImportedOrNone) {
    const std::string path = define_with_disk("all-or-none");
    const auto refused = [&](const std::string& document) {
        const std::string answer = import(path, memory_file(document));
        EXPECT_EQ(client.call(path, domain, "GetSnapshot", "s", "good").error, error_prefix + "NoSuchSnapshot");
        return answer.substr(0, answer.find(':'));
    };
    const std::string begin = "<domainsnapshots>" + foreign("good"), end = "</domainsnapshots>";
    EXPECT_EQ(refused(begin + foreign("bad", "nobody") + end), error_prefix + "InvalidXML");
    EXPECT_EQ(refused(begin + foreign("a", "b") + foreign("b", "a") + end), error_prefix + "InvalidXML");
    EXPECT_EQ(refused(begin), error_prefix + "InvalidXML");
    EXPECT_EQ(refused(""), error_prefix + "InvalidXML");
    EXPECT_EQ(refused(std::string(4096, '\0')), error_prefix + "InvalidXML");
}

TEST_F(Snapshots, OnlyASealedMemoryFileIsTaken) {
    const std::string path = define_with_disk("hostile");
    const auto refused = [&](const Fd& file, const char* why) {
        EXPECT_THAT(import(path, file), AllOf(StartsWith(invalid_args), HasSubstr(why)));
    };
    refused(memory_file("<domainsnapshots/>", 0), "can still be changed");
    for (const int missing : {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE})
        refused(memory_file("<domainsnapshots/>", all_seals & ~missing), "can still be changed");
    const Fd huge = memory_file("", 0);
    ASSERT_EQ(::ftruncate(huge.get(), off_t{2} << 30), 0);
    ::fcntl(huge.get(), F_ADD_SEALS, all_seals);
    refused(huge, "2147483648 bytes");
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const Fd reading{ends[0]}, writing{ends[1]};
    refused(reading, "a pipe");
    SocketPair sockets;
    refused(sockets.client, "a socket");
    const std::string plain = bed().folder / "plain";
    std::ofstream{plain} << "<domainsnapshots/>";
    refused(Fd{::open(plain.c_str(), O_RDONLY | O_CLOEXEC)}, "an ordinary file");
    refused(Fd{::open(plain.c_str(), O_PATH | O_CLOEXEC)}, "an ordinary file");
    refused(Fd{::open("/", O_RDONLY | O_CLOEXEC)}, "a folder");
    EXPECT_EQ(property(client, path, domain, "CurrentSnapshot"), "/");
}

TEST_F(Snapshots, TheyGoBeforeTheirDomain) {
    const std::string path = define_with_disk("gone");
    ASSERT_TRUE(create(path, "one").ok());
    listen();
    ASSERT_TRUE(client.call(path, domain, "Undefine", "a{sv}", 1, "snapshots-metadata", "b", 1).ok());
    std::vector<std::string> removed;
    for (const auto& one : client.signals)
        if (one.member == "InterfacesRemoved") removed.push_back(one.path);
    EXPECT_THAT(removed, ElementsAre(path, root)) << "the snapshot's first, said by the domain";
}

}  // namespace
}  // namespace virtbus::tests
