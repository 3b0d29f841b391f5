// SPDX-License-Identifier: LGPL-2.1-or-later
// Permission as callers meet it: the real daemon in system mode, a polkitd that follows a file of rules, and callers
// that are not root.
#include <sys/stat.h>

#include <fstream>

#include "tests/bus/network_calls.hpp"
#include "tests/bus/user_bed.hpp"

namespace virtbus::tests {
namespace {

using ::testing::HasSubstr;

struct Permission : SharedDaemon<Permission> {
    static constexpr bool system_mode = true;
    static inline Process* polkitd = nullptr;

    static void prepare(DaemonBed& bed) {
        polkitd = new Process{{FAKE_POLKITD, bed.folder / "rules", bed.folder / "questions"},
                              bed.environment(),
                              bed.folder / "polkitd",
                              bed.folder / "polkitd-errors"};
        const auto tick = bed.loop_tick();
        ASSERT_TRUE(bed.loop.run_until([&] { return read_file(bed.folder / "polkitd") == "ready\n"; }, patience));
    }
    static void TearDownTestSuite() {
        SharedDaemon<Permission>::TearDownTestSuite();
        delete polkitd;
    }

    /// root is never asked about, so the caller is somebody else where the test may choose.
    static uid_t caller_uid() { return DaemonBed::can_be_others() ? stranger : ::getuid(); }
    static void rules(const std::string& text) { std::ofstream{bed().folder / "rules"} << text; }
    static std::string questions() { return read_file(bed().folder / "questions"); }

    void SetUp() override {
        if (!DaemonBed::can_be_others()) GTEST_SKIP() << "only root can define domains here and call as another user";
        static int number = 0;
        name = "guarded-" + std::to_string(++number);
        path = define(client, name);
        other_ = bed().connect(caller_uid());
        rules("");
        asked_before = questions().size();
    }
    std::string asked() const { return questions().substr(asked_before); }

    /// Start as the other user, with a dialogue allowed or not.
    Answer start(bool interactive = false) {
        const auto message = other_->make(path, domain, "Start");
        sd_bus_message_append(message.get(), "a{sv}", 0);
        sd_bus_message_set_allow_interactive_authorization(message.get(), interactive);
        return other_->send(message).wait();
    }

    std::string name, path;
    std::size_t asked_before = 0;
    std::unique_ptr<Client> other_;
};

const std::string denied = "org.freedesktop.DBus.Error.AccessDenied";

TEST_F(Permission, ADenialIsADenial) {
    const Answer answer = start();
    EXPECT_EQ(answer.error, denied);
    EXPECT_EQ(start(true).error, denied) << "a dialogue would not help";
    EXPECT_EQ(state(path), "shutoff");
    EXPECT_THAT(asked(), HasSubstr("org.virtbus1.domain.start"));
    EXPECT_THAT(asked(), HasSubstr(name));
    EXPECT_THAT(asked(), HasSubstr("Start"));
}

TEST_F(Permission, AChallengeAsksForADialogue) {
    rules("challenge * *\n");
    EXPECT_EQ(start().error, "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired");
    EXPECT_EQ(state(path), "shutoff");
    EXPECT_EQ(text_of(start(true)), "/");
    EXPECT_EQ(state(path), "running");
}

TEST_F(Permission, ARuleCanBeForOneMachine) {
    rules(std::to_string(caller_uid()) + " org.virtbus1.domain.start domain-name=" + name + "\n");
    EXPECT_EQ(text_of(start()), "/");
    EXPECT_EQ(other_->call(path, domain, "Stop", "a{sv}", 0).error, denied);
    const std::string another = define(client, name + "-other");
    EXPECT_EQ(other_->call(another, domain, "Start", "a{sv}", 0).error, denied);
}

TEST_F(Permission, WhoIsDeniedLearnsNothing) {
    const std::string nobody = root + "/domain/99999999_9999_4999_8999_999999999999";
    const Answer there = other_->call(path, domain, "Start", "a{sv}", 0);
    const Answer not_there = other_->call(nobody, domain, "Start", "a{sv}", 0);
    EXPECT_EQ(there.error, denied);
    EXPECT_EQ(not_there.error, denied);
    EXPECT_EQ(there.message, not_there.message);
    const Answer known = other_->call(root, manager, "GetDomain", "s", name.c_str());
    const Answer unknown = other_->call(root, manager, "GetDomain", "s", "nobody");
    EXPECT_EQ(known.error, denied);
    EXPECT_EQ(unknown.error, denied);
    EXPECT_EQ(known.message, unknown.message);
}

TEST_F(Permission, PropertiesNeedNone) {
    EXPECT_EQ(property(*other_, path, domain, "Name"), name);
    EXPECT_TRUE(other_->call(root, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects").ok());
    EXPECT_EQ(asked(), "");
}

TEST_F(Permission, PasswordsNeedTheirOwn) {
    rules("* org.virtbus1.domain.read\n");
    EXPECT_TRUE(other_->call(path, domain, "GetXML", "a{sv}", 0).ok());
    EXPECT_EQ(other_->call(path, domain, "GetXML", "a{sv}", 1, "secure", "b", 1).error, denied);
    rules("* org.virtbus1.domain.read\n* org.virtbus1.domain.read-secure\n");
    EXPECT_TRUE(other_->call(path, domain, "GetXML", "a{sv}", 1, "secure", "b", 1).ok());
}

TEST_F(Permission, CreateNeedsTwo) {
    const auto create = [&] {
        return other_->call(root, manager, "CreateDomain", "sa{sv}", test_xml(name + "-created").c_str(), 0).error;
    };
    rules("* org.virtbus1.domain.configure\n");
    EXPECT_EQ(create(), denied);
    rules("* org.virtbus1.domain.start\n");
    EXPECT_EQ(create(), denied);
    rules("* org.virtbus1.domain.start\n* org.virtbus1.domain.configure\n");
    EXPECT_EQ(create(), "");
}

TEST_F(Permission, AQuestionLeavesWithItsCaller) {
    rules("hold * *\n");
    (void)other_->start(path, domain, "Start", "a{sv}", 0);
    ASSERT_TRUE(run_until([&] { return asked().find("org.virtbus1.domain.start") != std::string::npos; }));
    other_.reset();
    EXPECT_TRUE(run_until([&] { return asked().find("cancel") != std::string::npos; })) << asked();
    EXPECT_EQ(state(path), "shutoff");
    EXPECT_EQ(property(client, path, domain, "StartedAt"), "0");
}

TEST_F(Permission, OthersAreServedWhileAQuestionIsOpen) {
    rules("hold * *\n");
    auto waiting = other_->start(path, domain, "Start", "a{sv}", 0);
    ASSERT_TRUE(run_until([&] { return asked().find("org.virtbus1.domain.start") != std::string::npos; }));
    EXPECT_EQ(property(*other_, path, domain, "State"), "shutoff");
    EXPECT_EQ(text_of(verb(path, "Start")), "/");
    EXPECT_FALSE(waiting.finished());
    const auto release =
        client.make("/org/virtbus/FakePolkit", "org.virtbus.FakePolkit", "Release", "org.freedesktop.PolicyKit1");
    (void)client.send(release).wait();
    other_.reset();
}

TEST_F(Permission, AJobIsCancelledByWhoMayDoWhatItDoes) {
    const std::string slow = define(client, name + "-slow", "hang-start='yes'");
    const std::string started = text_of(client.call(slow, domain, "Start", "a{sv}", 1, "no-wait", "b", 1));
    EXPECT_EQ(other_->call(started, job, "Cancel", "a{sv}", 0).error, denied);
    rules("* org.virtbus1.domain.start\n");
    EXPECT_TRUE(other_->call(started, job, "Cancel", "a{sv}", 0).ok());
    EXPECT_TRUE(run_until([&] { return property(client, started, job, "State") == "cancelled"; }));
}

TEST_F(Permission, APeerOnTheSocketIsAskedAboutAsAProcess) {
    const auto peer = bed().connect_to("unix:path=" + bed().socket(), caller_uid());
    EXPECT_EQ(peer->call(path, domain, "Start", "a{sv}", 0).error, denied);
    EXPECT_THAT(asked(), HasSubstr("subject=process:"));
    rules(std::to_string(caller_uid()) + " org.virtbus1.domain.start\n");
    EXPECT_EQ(text_of(peer->call(path, domain, "Start", "a{sv}", 0)), "/");
    const std::string slow = define(client, name + "-slow", "hang-start='yes'");
    const std::string started = text_of(peer->call(slow, domain, "Start", "a{sv}", 1, "no-wait", "b", 1));
    EXPECT_EQ(property(client, started, job, "StartedByUID"), std::to_string(caller_uid()));
    (void)client.call(slow, domain, "Stop", "a{sv}", 0);
}

TEST_F(Permission, SavedFilesAreTheCallersAndOnlyOurOwnComeBackWithStartAlone) {
    const std::string uid = std::to_string(caller_uid());
    OpenFolder folder;
    ASSERT_EQ(::chmod(folder.path().c_str(), 0777), 0);
    const std::string file = folder / "saved", roots = bed().folder / "roots";
    rules("* org.virtbus1.domain.start\n* org.virtbus1.domain.save\n");
    ASSERT_EQ(text_of(start()), "/");
    const Answer elsewhere = other_->call(path, domain, "Save", "sa{sv}", roots.c_str(), 0);
    EXPECT_EQ(elsewhere.error, denied) << elsewhere.message;
    EXPECT_EQ(state(path), "running");
    ASSERT_EQ(text_of(other_->call(path, domain, "Save", "sa{sv}", file.c_str(), 0)), "/");
    struct stat facts{};
    ASSERT_EQ(::stat(file.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_uid, caller_uid());
    EXPECT_EQ(facts.st_mode & 0777, 0600u);

    rules(uid + " org.virtbus1.domain.start domain-name=" + name + "\n");
    const auto restore = [&](const std::string& from) {
        return other_->call(root, manager, "RestoreDomain", "sa{sv}", from.c_str(), 0);
    };
    EXPECT_EQ(text_of(restore(file)), path);
    ASSERT_EQ(text_of(verb(path, "Stop")), "/");
    EXPECT_EQ(other_->call(root, manager, "RestoreDomain", "sa{sv}", file.c_str(), 1, "xml", "s", "<domain/>").error,
              denied);
    // The same image with another seal: its definition might be anything.
    {
        std::fstream image{file, std::ios::in | std::ios::out | std::ios::binary};
        image.seekp(72);
        image << "x";
        std::string head(248, '\0');
        image.seekg(0).read(head.data(), 248);
        std::uint64_t sum = 14695981039346656037U;
        for (const unsigned char byte : head) sum = (sum ^ byte) * 1099511628211U;
        image.seekp(248);
        image.write(reinterpret_cast<const char*>(&sum), 8);
    }
    EXPECT_EQ(restore(file).error, denied);
    EXPECT_THAT(asked(), HasSubstr("org.virtbus1.domain.configure"));
    EXPECT_EQ(state(path), "shutoff");
    rules("* org.virtbus1.domain.start\n* org.virtbus1.domain.configure\n");
    EXPECT_EQ(text_of(restore(file)), path);
    ASSERT_EQ(text_of(verb(path, "Stop")), "/");
    // What only root may read cannot be restored by others, whatever they may do here.
    ASSERT_EQ(::chown(file.c_str(), 0, 0), 0);
    EXPECT_EQ(restore(file).error, denied);
}

TEST_F(Permission, NetworksHaveActionsOfTheirOwn) {
    const std::string lan = define_network(client, network_xml(name));
    const auto xml = network_xml(name + "-other");
    const struct {
        const char* action;
        std::function<Answer()> call;
    } verbs[] = {
        {"network.read", [&] { return other_->call(lan, network, "GetXML", "a{sv}", 0); }},
        {"network.read", [&] { return other_->call(lan, network, "GetLeases", "a{sv}", 0); }},
        {"network.read", [&] { return other_->call(root, manager, "ListNetworks", "a{sv}", 0); }},
        {"network.read", [&] { return other_->call(root, manager, "GetNetwork", "s", name.c_str()); }},
        {"network.stop", [&] { return other_->call(lan, network, "Stop", "a{sv}", 0); }},
        {"network.configure", [&] { return other_->call(lan, network, "SetAutostart", "ba{sv}", 1, 0); }},
        {"network.configure",
         [&] {
             return other_->call(lan, network, "Update", "ssisa{sv}", "add-last", "dns-txt", -1,
                                 "<txt name='a' value='b'/>", 0);
         }},
        {"network.configure", [&] { return other_->call(root, manager, "DefineNetwork", "sa{sv}", xml.c_str(), 0); }},
        {"network.delete", [&] { return other_->call(lan, network, "Undefine", "a{sv}", 0); }},
    };
    for (const auto& [action, call] : verbs) {
        rules("* org.virtbus1.domain.start\n* org.virtbus1.network.start\n");
        EXPECT_EQ(call().error, denied) << action;
        rules(std::string{"* org.virtbus1."} + action + "\n");
        EXPECT_NE(call().error, denied) << action;
    }
    rules("* org.virtbus1.network.configure\n");
    EXPECT_EQ(other_->call(root, manager, "CreateNetwork", "sa{sv}", xml.c_str(), 0).error, denied);
    EXPECT_EQ(property(*other_, root, manager, "Mode"), "system") << "properties need none";
}

TEST_F(Permission, ARuleCanBeForOneNetwork) {
    const std::string one = define_network(client, network_xml(name));
    const std::string two = define_network(client, network_xml(name + "-two"));
    const auto autostart = [&](const std::string& path) {
        return other_->call(path, network, "SetAutostart", "ba{sv}", 1, 0).error;
    };
    rules("* org.virtbus1.network.configure network-name=" + name + "\n");
    EXPECT_EQ(autostart(one), "");
    EXPECT_EQ(autostart(two), denied);
    const auto uuid = property(client, two, network, "UUID");
    rules("* org.virtbus1.network.configure network-uuid=" + uuid + "\n");
    EXPECT_EQ(autostart(one), denied);
    EXPECT_EQ(autostart(two), "");
    EXPECT_THAT(asked(), HasSubstr("SetAutostart"));
    const Answer there = other_->call(one, network, "Stop", "a{sv}", 0);
    const Answer not_there =
        other_->call(root + "/network/99999999_9999_4999_8999_999999999999", network, "Stop", "a{sv}", 0);
    EXPECT_EQ(there.error + there.message, not_there.error + not_there.message) << "who is denied learns nothing";
}

TEST_F(Permission, SnapshotsAndBackupsHaveActionsOfTheirOwn) {
    const struct {
        const char *interface, *member, *action;
        std::string xml;
    } verbs[] = {
        {domain, "CreateSnapshot", "org.virtbus1.domain.snapshot", "<domainsnapshot/>"},
        {domain, "CreateCheckpoint", "org.virtbus1.domain.snapshot", "<domaincheckpoint/>"},
        {"org.virtbus1.Domain.Backup", "Begin", "org.virtbus1.domain.backup", "<domainbackup/>"},
    };
    for (const auto& verb : verbs) {
        asked_before = questions().size();
        const auto call = [&] {
            return other_->call(path, verb.interface, verb.member, "sa{sv}", verb.xml.c_str(), 0);
        };
        rules("");
        EXPECT_EQ(call().error, denied) << verb.member;
        EXPECT_THAT(asked(), HasSubstr(verb.action));
        EXPECT_THAT(asked(), HasSubstr(name));
        rules("* " + std::string{verb.action} + "\n");
        EXPECT_NE(call().error, denied) << verb.member;
    }
    rules("* org.virtbus1.domain.snapshot\n");
    const std::string one = text_of(client.call(path, domain, "CreateSnapshot", "sa{sv}",
                                                "<domainsnapshot><name>one</name><state>shutoff</state>"
                                                "<creationTime>1700000000</creationTime></domainsnapshot>",
                                                1, "redefine", "b", 1));
    ASSERT_EQ(one, path + "/snapshot/one");
    EXPECT_EQ(other_->call(path, domain, "ExportSnapshots", "a{sv}", 0).error, denied) << "it holds passwords";
    rules("");
    for (const char* member : {"Revert", "Delete"})
        EXPECT_EQ(other_->call(one, "org.virtbus1.Snapshot", member, "a{sv}", 0).error, denied) << member;
    EXPECT_EQ(other_->call(one, "org.virtbus1.Snapshot", "GetXML", "a{sv}", 1, "secure", "b", 1).error, denied);
}

}  // namespace
}  // namespace virtbus::tests
