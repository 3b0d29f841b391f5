// SPDX-License-Identifier: LGPL-2.1-or-later
// The faces over domains that keep what they are told: nothing is lost or changed between the bus and the service.
#include "dbus/face.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dbus/domain_interface.hpp"
#include "dbus/job_interface.hpp"
#include "dbus/manager_interface.hpp"
#include "polkit/access.hpp"
#include "tests/dbus/fake_domains.hpp"
#include "tests/support/bus_client.hpp"

namespace virtbus::dbus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using tests::Client;

struct SilentLog final : Log {
    void write(Priority, std::string_view, const Fields&) override {}
};

constexpr const char* domain = "org.virtbus1.Domain";
constexpr const char* manager = "org.virtbus1.Manager";
constexpr const char* job = "org.virtbus1.Job";
constexpr const char* properties = "org.freedesktop.DBus.Properties";
const std::string root = "/org/virtbus1";

struct FaceTest : ::testing::Test {
    FaceTest() {
        face.present(domains, jobs);
        face.serve_socket(folder / "bus");
        client.emplace(loop, "unix:path=" + (folder / "bus"), "org.virtbus1");
        one = &domains.add(1);
        path = root + "/domain/00000000_0000_4000_8000_000000000001";
    }
    ~FaceTest() override {
        client.reset();
        face.close();
    }
    Task<> allow(Caller, std::string action, Details details) {
        asked.push_back(action + " " + (details.contains("domain-name") ? details.at("domain-name") : "-") + " " +
                        details.at("verb"));
        co_return;
    }
    tests::Answer verb(const char* member) { return client->call(path, domain, member, "a{sv}", 0); }
    void listen() {
        ASSERT_TRUE(client->call(root, "org.freedesktop.DBus.Peer", "Ping").ok());
        const auto match =
            client->make("/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "org.freedesktop.DBus");
        sd_bus_message_append(match.get(), "s", "type='signal'");
        ASSERT_TRUE(client->send(match).wait().ok());
    }
    std::vector<std::string> heard() {
        EXPECT_TRUE(client->call(root, "org.freedesktop.DBus.Peer", "Ping").ok());
        std::vector<std::string> members;
        for (const auto& signal : client->signals) members.push_back(signal.member);
        client->signals.clear();
        return members;
    }

    host::MainLoop loop;
    host::SystemClock clock;
    SilentLog log;
    tests::TemporaryFolder folder;
    std::vector<std::string> asked;
    Face face{loop, log,
              [this](Caller caller, std::string action, Details details, std::stop_token) {
                  return allow(std::move(caller), std::move(action), std::move(details));
              },
              "1.2.3", false};
    Jobs jobs{loop, clock, log, face.audience()};
    FakeDomains domains{jobs, face.audience(), loop};
    std::optional<Client> client;
    FakeDomain* one = nullptr;
    std::string path;
};

TEST_F(FaceTest, VerbsArriveWithTheirArguments) {
    const auto said = [&](const char* member, const char* types, auto... arguments) {
        const auto answer = client->call(path, domain, member, types, arguments...);
        return answer.ok() ? one->said : answer.error + answer.message;
    };
    EXPECT_EQ(said("Start", "a{sv}", 2, "paused", "b", 1, "force-boot", "b", 1), "start true false false true false");
    EXPECT_EQ(said("Start", "a{sv}", 3, "autodestroy", "b", 1, "bypass-cache", "b", 1, "reset-nvram", "b", 1),
              "start false true true false true");
    EXPECT_EQ(said("Stop", "a{sv}", 1, "graceful", "b", 1), "stop true");
    EXPECT_EQ(said("Shutdown", "a{sv}", 0), "shutdown default");
    EXPECT_EQ(said("Shutdown", "a{sv}", 1, "mode", "s", "agent"), "shutdown agent");
    EXPECT_EQ(said("Reboot", "a{sv}", 1, "mode", "s", "acpi"), "reboot acpi");
    EXPECT_EQ(said("Reset", "a{sv}", 0), "reset");
    EXPECT_EQ(said("Suspend", "a{sv}", 0), "suspend");
    EXPECT_EQ(said("Resume", "a{sv}", 0), "resume");
    EXPECT_EQ(said("InjectNMI", "a{sv}", 0), "inject-nmi");
    EXPECT_EQ(said("SetAutostart", "ba{sv}", 1, 0), "set-autostart true");
    EXPECT_EQ(said("Undefine", "a{sv}", 3, "managed-save", "b", 1, "keep-nvram", "b", 1, "tpm", "b", 1),
              "undefine true false false false true true false");
    EXPECT_EQ(said("Undefine", "a{sv}", 4, "snapshots-metadata", "b", 1, "checkpoints-metadata", "b", 1, "nvram", "b",
                   1, "keep-tpm", "b", 1),
              "undefine false true true true false false true");
    EXPECT_EQ(said("Rename", "sa{sv}", "another", 0), "rename another");
    EXPECT_EQ(said("SetMemory", "ta{sv}", std::uint64_t{1} << 40, 0), "set-memory 1099511627776 0 false");
    EXPECT_EQ(said("SetVCpus", "ua{sv}", 4u, 2, "scope", "s", "both", "maximum", "b", 1), "set-vcpus 4 3 true");
    EXPECT_EQ(said("SetMetadata", "ssssa{sv}", "element", "urn:x", "x", "<a/>", 1, "scope", "s", "live"),
              "set-metadata element urn:x x <a/> 1");
    EXPECT_EQ(said("SendKey", "asa{sv}", 2, "ctrl", "alt", 0), "send-key 2");
    EXPECT_EQ(said("OpenConsole", "sa{sv}", "serial0", 1, "force", "b", 1), "open-console serial0 true");
    EXPECT_EQ(one->asked_by.uid, ::getuid());
}

TEST_F(FaceTest, ReadingVerbsAnswer) {
    EXPECT_EQ(Client::text(client->call(path, domain, "GetXML", "a{sv}", 2, "secure", "b", 1, "migratable", "b", 1)),
              "<domain inactive='false' secure='true' migratable='true'/>");
    EXPECT_EQ(Client::text(client->call(path, domain, "GetMetadata", "ssa{sv}", "element", "urn:x", 1, "scope", "s",
                                        "persistent")),
              "element urn:x 2");
    const std::string stats =
        Client::print(client->call(path, domain, "GetStats", "a{sv}", 1, "groups", "as", 2, "a", "b"));
    EXPECT_THAT(stats, HasSubstr("cpu.time"));
    EXPECT_THAT(stats, HasSubstr("UINT64 42"));
    EXPECT_THAT(stats, HasSubstr("stale"));
    EXPECT_EQ(client->call(path, domain, "Screenshot", "ua{sv}", 1u, 0).error, "org.virtbus1.Error.NoSuchDevice");
    EXPECT_THAT(client->call(path, domain, "OpenDisplay", "a{sv}", 1, "type", "s", "vnc").message, HasSubstr("'vnc'"));
    EXPECT_EQ(Client::text(client->call(root, manager, "GetDomainCapabilities", "a{sv}", 4, "driver", "s", "d",
                                        "emulator", "s", "e", "arch", "s", "a", "machine", "s", "m")),
              "d e a m");
    EXPECT_THAT(Client::print(client->call(root, manager, "CheckDomain", "sa{sv}", "<x/>", 1, "runnable", "b", 1)),
                HasSubstr("runnable"));
    EXPECT_TRUE(client
                    ->call(root, manager, "CreateDomain", "sa{sv}", "<x/>", 3, "paused", "b", 1, "autodestroy", "b", 1,
                           "reset-nvram", "b", 1)
                    .ok());
    EXPECT_TRUE(domains.created.start.paused && domains.created.start.autodestroy && domains.created.start.reset_nvram);
    EXPECT_FALSE(domains.created.validate);
}

TEST_F(FaceTest, QuestionsNameTheDomain) {
    (void)verb("Start");
    (void)client->call(root, manager, "GetDomain", "s", "domain-1");
    (void)client->call(root, manager, "DefineDomain", "sa{sv}", "from-xml", 0);
    (void)client->call(root, manager, "CreateDomain", "sa{sv}", "from-xml", 0);
    (void)client->call(path, domain, "GetXML", "a{sv}", 1, "secure", "b", 1);
    EXPECT_THAT(asked, ElementsAre("domain.start domain-1 Start", "domain.read domain-1 GetDomain",
                                   "domain.configure from-xml DefineDomain", "domain.configure from-xml CreateDomain",
                                   "domain.start from-xml CreateDomain", "domain.read domain-1 GetXML",
                                   "domain.read-secure domain-1 GetXML"));
    EXPECT_EQ(client->call(root, manager, "DefineDomain", "sa{sv}", "", 0).error, "org.virtbus1.Error.InvalidXML");
}

TEST_F(FaceTest, AJobAnswersAtOnceOrWhenItIsDone) {
    EXPECT_EQ(Client::text(client->call(path, domain, "Start", "a{sv}", 1, "no-wait", "b", 1)), "/") << "done already";
    one->held = true;
    const std::string path_of_job = Client::text(client->call(path, domain, "Start", "a{sv}", 1, "no-wait", "b", 1));
    ASSERT_THAT(path_of_job, StartsWith(root + "/job/"));
    EXPECT_THAT(Client::print(client->call(path_of_job, properties, "Get", "ss", job, "Objects")), HasSubstr(path));
    auto waiting = client->start(path, domain, "Stop", "a{sv}", 0);
    ASSERT_TRUE(loop.run_until([&] { return one->release.size() == 2; }, tests::patience));
    EXPECT_FALSE(waiting.finished());
    one->fails = true;
    one->release[1].set();
    EXPECT_EQ(waiting.wait().error, "org.virtbus1.Error.HypervisorFailed");
    one->fails = false;
    EXPECT_TRUE(client->call(path_of_job, job, "Cancel", "a{sv}", 0).ok());
    ASSERT_TRUE(loop.run_until([&] { return !jobs.busy(); }, tests::patience));
    EXPECT_THAT(Client::print(client->call(path_of_job, properties, "GetAll", "s", job)),
                HasSubstr("org.virtbus1.Error.Cancelled"));
    EXPECT_EQ(asked.back(), "domain.start domain-1 Cancel") << "the action of the verb it cancels";
}

TEST_F(FaceTest, EachChangeHasItsSignals) {
    listen();
    one->change([](DomainView& view) { view.title = "new"; });
    EXPECT_THAT(heard(), ElementsAre("PropertiesChanged"));
    one->change([](DomainView&) {});
    EXPECT_THAT(heard(), ElementsAre());
    one->change([](DomainView& view) { view.state = State::running; });
    EXPECT_THAT(heard(), ElementsAre("PropertiesChanged", "StateChanged"));
    using Kind = DomainEvent::Kind;
    for (const auto kind : {Kind::rebooted, Kind::device_added, Kind::device_removed, Kind::device_removal_failed,
                            Kind::io_error, Kind::watchdog_fired, Kind::agent_changed})
        face.audience().domain_event(*one, {kind, "alias", "action", "reason", true});
    EXPECT_THAT(heard(), ElementsAre("Rebooted", "DeviceAdded", "DeviceRemoved", "DeviceRemovalFailed", "IOError",
                                     "WatchdogFired", "AgentChanged"));
    domains.remove("00000000-0000-4000-8000-000000000001");
    EXPECT_THAT(heard(), ElementsAre("InterfacesRemoved"));
    domains.add(2);
    EXPECT_THAT(heard(), ElementsAre("InterfacesAdded"));
}

TEST_F(FaceTest, ItIsIdleWhenNobodyIsThere) {
    ASSERT_TRUE(client->call(root, "org.freedesktop.DBus.Peer", "Ping").ok());
    EXPECT_FALSE(face.idle());
    client.reset();
    EXPECT_TRUE(loop.run_until([&] { return face.idle(); }, tests::patience));
    // For the destructor of the fixture and to see that it comes back.
    client.emplace(loop, "unix:path=" + (folder / "bus"), "org.virtbus1");
    ASSERT_TRUE(client->call(root, "org.freedesktop.DBus.Peer", "Ping").ok());
    EXPECT_FALSE(face.idle());
}

TEST_F(FaceTest, ClosingDropsWhatIsUnderWay) {
    one->held = true;
    (void)client->start(path, domain, "Start", "a{sv}", 0);
    ASSERT_TRUE(loop.run_until([&] { return one->release.size() == 1; }, tests::patience));
    face.close();
    EXPECT_TRUE(loop.run_until([&] { return client->closed; }, tests::patience));
    one->release[0].set();
    EXPECT_TRUE(loop.run_until([&] { return !jobs.busy(); }, tests::patience)) << "the work goes on";
}

TEST(Tables, EveryActionOfTheInterfacesIsOneOfPolkits) {
    for (const auto& table : {manager_permissions, domain_permissions, job_permissions})
        for (const auto& row : table) {
            if (row.action == "of-object") continue;
            EXPECT_THAT(polkit::actions, ::testing::Contains(row.action)) << row.method;
        }
}

TEST(Tables, EveryMethodAsksForSomething) {
    const auto check = [](const Interface& interface, std::span<const Permission> table) {
        for (const auto& method : interface.methods)
            EXPECT_TRUE(std::any_of(table.begin(), table.end(), [&](const Permission& row) {
                return row.method == method.name;
            })) << method.name;
    };
    check(manager_interface, manager_permissions);
    check(domain_interface, domain_permissions);
    check(job_interface, job_permissions);
    EXPECT_EQ(domain_interface.methods.size(), 27u);
}

}  // namespace
}  // namespace virtbus::dbus
