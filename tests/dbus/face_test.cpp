// SPDX-License-Identifier: LGPL-2.1-or-later
// The faces over domains that keep what they are told: nothing is lost or changed between the bus and the service.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <fstream>

#include "dbus/backup_interface.hpp"
#include "dbus/checkpoint_interface.hpp"
#include "dbus/domain_interface.hpp"
#include "dbus/job_interface.hpp"
#include "dbus/manager_interface.hpp"
#include "dbus/network_interface.hpp"
#include "dbus/snapshot_interface.hpp"
#include "polkit/access.hpp"
#include "tests/dbus/face_bed.hpp"

namespace virtbus::dbus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

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

// ---- snapshots, checkpoints, backups ----

TEST_F(FaceTest, SnapshotVerbsArriveWithTheirArguments) {
    one->snapshots().add(one->view().uuid, "first");
    const std::string snapshot = path + "/snapshot/first";
    const auto said = [&](const std::string& object, const char* interface, const char* member, const char* types,
                          auto... arguments) {
        const auto answer = client->call(object, interface, member, types, arguments...);
        return answer.ok() ? one->said : answer.error + answer.message;
    };
    EXPECT_EQ(said(path, domain, "CreateSnapshot", "sa{sv}", "<s/>", 5, "redefine", "b", 1, "no-metadata", "b", 1,
                   "disk-only", "b", 1, "quiesce", "b", 1, "live", "b", 1),
              "create <s/> true false true false true false true false true false");
    EXPECT_EQ(said(path, domain, "CreateSnapshot", "sa{sv}", "<s/>", 5, "current", "b", 1, "halt", "b", 1,
                   "reuse-external", "b", 1, "atomic", "b", 1, "validate", "b", 1),
              "create <s/> false true false true false true false true false true");
    EXPECT_EQ(said(path, domain, "CreateCheckpoint", "sa{sv}", "<c/>", 3, "redefine", "b", 1, "validate-bitmaps", "b",
                   1, "quiesce", "b", 0),
              "create-checkpoint <c/> true true false");
    const char* const face = "org.virtbus1.Snapshot";
    EXPECT_EQ(said(snapshot, face, "Revert", "a{sv}", 3, "running", "b", 1, "force", "b", 1, "no-undo", "b", 1),
              "revert first true false true false true");
    EXPECT_EQ(said(snapshot, face, "Revert", "a{sv}", 2, "paused", "b", 1, "reset-nvram", "b", 1),
              "revert first false true false true false");
    EXPECT_EQ(said(snapshot, face, "Delete", "a{sv}", 1, "children-only", "b", 1), "remove first false true false");
    EXPECT_EQ(said(snapshot, face, "Delete", "a{sv}", 2, "children", "b", 1, "metadata-only", "b", 1),
              "remove first true false true");
    EXPECT_EQ(Client::text(client->call(snapshot, face, "GetXML", "a{sv}", 1, "secure", "b", 1)),
              "<snapshot name='first' secure='true'/>");
    one->checkpoints().views["c 1"] = {"c 1", "", one->view().uuid, "", {}};
    EXPECT_EQ(Client::text(client->call(path + "/checkpoint/c_201", "org.virtbus1.Checkpoint", "GetXML", "a{sv}", 2,
                                        "no-domain", "b", 1, "size", "b", 1)),
              "<checkpoint name='c 1'> false true true");
    EXPECT_EQ(said(path + "/checkpoint/c_201", "org.virtbus1.Checkpoint", "Delete", "a{sv}", 1, "children", "b", 1),
              "remove-checkpoint c 1 true false false");
}

TEST_F(FaceTest, SnapshotsAreFoundByTheirNames) {
    const std::string name = "Grüße / _ 2";
    one->snapshots().add(one->view().uuid, name);
    const std::string snapshot = path + "/snapshot/Gr_c3_bc_c3_9fe_20_2f_20_5f_202";
    EXPECT_EQ(Client::text(client->call(path, domain, "GetSnapshot", "s", name.c_str())), snapshot);
    EXPECT_THAT(Client::print(client->call(snapshot, properties, "GetAll", "s", "org.virtbus1.Snapshot")),
                HasSubstr(name));
    EXPECT_EQ(client->call(path, domain, "GetSnapshot", "s", "none").error, "org.virtbus1.Error.NoSuchSnapshot");
    EXPECT_EQ(client->call(path, domain, "GetCheckpoint", "s", "none").error, "org.virtbus1.Error.NoSuchCheckpoint");
    const auto made = client->call(path, domain, "CreateSnapshot", "sa{sv}", "<s/>", 0);
    EXPECT_EQ(Client::text(made), path + "/snapshot/a_20new_2fone");
    EXPECT_EQ(Client::text(client->call(path, domain, "CreateSnapshot", "sa{sv}", "<s/>", 1, "no-metadata", "b", 1)),
              "/");
    const std::string longest(255, '\xff'), element = path + "/snapshot/" + [] {
        std::string all;
        for (int i = 0; i < 255; i++) all += "_ff";
        return all;
    }();
    one->snapshots().add(one->view().uuid, longest);
    EXPECT_TRUE(client->call(element, "org.virtbus1.Snapshot", "GetXML", "a{sv}", 0).ok());
}

TEST_F(FaceTest, ADomainManagesItsOwnSnapshots) {
    listen();
    const auto& uuid = one->view().uuid;
    auto& first = one->snapshots().add(uuid, "first");
    auto& second = one->snapshots().add(uuid, "second", "first");
    const auto objects = [&](const std::string& object) {
        return Client::print(client->call(object, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"));
    };
    EXPECT_THAT(objects(path), HasSubstr(path + "/snapshot/second"));
    EXPECT_THAT(objects(root), ::testing::Not(HasSubstr("/snapshot/second")));
    EXPECT_THAT(objects(root), HasSubstr("org.virtbus1.Domain.Backup"));
    const auto introspect = [&](const std::string& object) {
        return Client::text(client->call(object, "org.freedesktop.DBus.Introspectable", "Introspect"));
    };
    for (const char* part : {"<node name=\"snapshot\"/>", "<node name=\"checkpoint\"/>", "org.virtbus1.Domain.Backup",
                             "org.virtbus1.Domain\"", "GetManagedObjects"})
        EXPECT_THAT(introspect(path), HasSubstr(part));
    EXPECT_THAT(introspect(path + "/snapshot"), HasSubstr("<node name=\"first\"/>"));
    EXPECT_EQ(introspect(root + "/domain/00000000_0000_4000_8000_000000000009/snapshot"),
              "org.freedesktop.DBus.Error.UnknownObject");
    client->signals.clear();

    face.audience().snapshot_added(*one, second);
    const SnapshotView before = first;
    first.current = true;
    face.audience().snapshot_changed(*one, before, first);
    face.audience().snapshot_changed(*one, first, first);
    face.audience().checkpoint_added(*one, {"c", "", uuid, "", {}});
    face.audience().checkpoint_removed(uuid, {"c", "", uuid, "", {}});
    face.audience().snapshot_removed(uuid, second);
    EXPECT_TRUE(client->call(root, "org.freedesktop.DBus.Peer", "Ping").ok());
    std::vector<std::string> told;
    for (const auto& signal : client->signals) told.push_back(signal.path + " " + signal.member);
    EXPECT_THAT(told, ElementsAre(path + " InterfacesAdded", path + "/snapshot/first PropertiesChanged",
                                  path + " InterfacesAdded", path + " InterfacesRemoved", path + " InterfacesRemoved"));
}

TEST_F(FaceTest, QuestionsAboutSnapshotsNameTheDomain) {
    one->snapshots().add(one->view().uuid, "first");
    const std::string snapshot = path + "/snapshot/first", face_name = "org.virtbus1.Snapshot";
    (void)client->call(snapshot, face_name, "Revert", "a{sv}", 0);
    (void)client->call(snapshot, face_name, "GetXML", "a{sv}", 1, "secure", "b", 1);
    (void)client->call(path, domain, "ExportSnapshots", "a{sv}", 0);
    (void)client->call(path, "org.virtbus1.Domain.Backup", "End", "a{sv}", 0);
    EXPECT_THAT(asked, ElementsAre("domain.snapshot domain-1 Revert", "domain.read domain-1 GetXML",
                                   "domain.read-secure domain-1 GetXML", "domain.read-secure domain-1 ExportSnapshots",
                                   "domain.backup domain-1 End"));
    EXPECT_EQ(client->call(path + "/snapshot/none", face_name, "Revert", "a{sv}", 0).error,
              "org.freedesktop.DBus.Error.UnknownObject");
    EXPECT_EQ(asked.back(), "domain.snapshot domain-1 Revert") << "a stranger learns nothing before";
}

TEST_F(FaceTest, ABackupThatIsServedAnswersWithItsJob) {
    const char* const backup = "org.virtbus1.Domain.Backup";
    const std::string path_of_job = Client::text(
        client->call(path, backup, "Begin", "sa{sv}", "<b/>", 2, "checkpoint", "s", "<c/>", "reuse-external", "b", 1));
    EXPECT_EQ(one->said, "backup <b/> <c/> true");
    EXPECT_THAT(path_of_job, StartsWith(root + "/job/"));
    EXPECT_EQ(Client::text(client->call(path, backup, "GetXML", "a{sv}", 0)), "<domainbackup/>");
    EXPECT_TRUE(client->call(path, backup, "End", "a{sv}", 0).ok());
    ASSERT_TRUE(loop.run_until([&] { return !jobs.busy(); }, tests::patience));
    EXPECT_EQ(client->call(path, backup, "End", "a{sv}", 0).error, "org.virtbus1.Error.InvalidState");
    EXPECT_EQ(client->call(path, backup, "Start", "a{sv}", 0).error, "org.freedesktop.DBus.Error.UnknownMethod");
    // Without an interface the first that has the method is meant.
    EXPECT_THAT(Client::text(client->call(path, "", "GetXML", "a{sv}", 0)), HasSubstr("<domain "));
}

// ---- memory files ----

Fd memory_file(const std::string& content, int seals) {
    Fd file{::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    EXPECT_EQ(::write(file.get(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
    if (seals) ::fcntl(file.get(), F_ADD_SEALS, seals);
    return file;
}
constexpr int all_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

TEST_F(FaceTest, ExportedSnapshotsAreASealedFile) {
    one->snapshots().exported = std::string(std::size_t{3} << 20, 'x') + "end";
    const auto answer = client->call(path, domain, "ExportSnapshots", "a{sv}", 0);
    ASSERT_TRUE(answer.ok()) << answer.message;
    int fd = -1;
    ASSERT_GT(sd_bus_message_read_basic(answer.body.get(), 'h', &fd), 0);
    EXPECT_EQ(::fcntl(fd, F_GET_SEALS) & all_seals, all_seals);
    std::string read(std::size_t{4} << 20, '\0');
    read.resize(static_cast<std::size_t>(::read(fd, read.data(), read.size())));
    EXPECT_TRUE(read == one->snapshots().exported);
}

TEST_F(FaceTest, OnlyASealedMemoryFileIsImported) {
    // Before a connection stands sd-bus waits for it when a descriptor is to be sent, and we are on both ends of it.
    ASSERT_TRUE(client->call(root, "org.freedesktop.DBus.Peer", "Ping").ok());
    const auto import = [&](const Fd& fd) {
        const auto answer = client->call(path, domain, "ImportSnapshots", "ha{sv}", fd.get(), 0);
        return answer.ok() ? Client::print(answer) : answer.error + ": " + answer.message;
    };
    const Fd good = memory_file("<domainsnapshots/>", all_seals);
    const std::string imported = import(good);
    EXPECT_THAT(imported, HasSubstr(path + "/snapshot/one"));
    EXPECT_THAT(imported, HasSubstr(path + "/snapshot/two"));
    EXPECT_EQ(one->said, "import 18 <domainsnapshots/>") << "from its beginning, wherever it stands";
    EXPECT_THAT(import(memory_file("", all_seals)), HasSubstr("/snapshot/one"))
        << "what it says is the service's matter";
    one->said.clear();

    const auto refused = [&](const Fd& fd, const char* why) {
        EXPECT_THAT(import(fd), ::testing::AllOf(StartsWith("org.freedesktop.DBus.Error.InvalidArgs"), HasSubstr(why)));
        EXPECT_EQ(one->said, "");
    };
    refused(memory_file("<x/>", 0), "can still be changed");
    refused(memory_file("<x/>", F_SEAL_SHRINK | F_SEAL_GROW), "can still be changed");
    refused(memory_file("<x/>", F_SEAL_SHRINK | F_SEAL_WRITE), "can still be changed");
    refused(memory_file("<x/>", F_SEAL_GROW | F_SEAL_WRITE), "can still be changed");
    refused(memory_file("<x/>", F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE), "can still be changed");
    Fd huge{::memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    ASSERT_EQ(::ftruncate(huge.get(), off_t{2} << 30), 0);
    ::fcntl(huge.get(), F_ADD_SEALS, all_seals);
    refused(huge, "2147483648 bytes");
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const Fd reading{ends[0]}, writing{ends[1]};
    refused(reading, "a pipe");
    tests::SocketPair sockets;
    refused(sockets.client, "a socket");
    std::ofstream{folder / "file"} << "<x/>";
    refused(Fd{::open((folder / "file").c_str(), O_RDONLY | O_CLOEXEC)}, "an ordinary file");
    refused(Fd{::open((folder / "file").c_str(), O_PATH | O_CLOEXEC)}, "an ordinary file");
    refused(Fd{::open(folder.path().c_str(), O_RDONLY | O_CLOEXEC)}, "a folder");
    refused(Fd{::open("/dev/zero", O_RDONLY | O_CLOEXEC)}, "a device");
    refused(Fd{::open(("/proc/self/fd/" + std::to_string(good.get())).c_str(), O_PATH | O_CLOEXEC)}, "it must be");
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
    for (const auto& table : {manager_permissions, domain_permissions, backup_permissions, snapshot_permissions,
                              checkpoint_permissions, network_permissions, job_permissions})
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
    check(backup_interface, backup_permissions);
    check(snapshot_interface, snapshot_permissions);
    check(checkpoint_interface, checkpoint_permissions);
    check(network_interface, network_permissions);
    check(job_interface, job_permissions);
    EXPECT_EQ(domain_interface.methods.size(), 33u);
}

}  // namespace
}  // namespace virtbus::dbus
