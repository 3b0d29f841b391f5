// SPDX-License-Identifier: LGPL-2.1-or-later
// Checkpoints and backups as a client sees them: the real daemon in user mode with a real QEMU.
#include "tests/bus/user_bed.hpp"

namespace virtbus::tests {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* checkpoint = "org.virtbus1.Checkpoint";
constexpr const char* backup = "org.virtbus1.Domain.Backup";

struct Backups : SharedDaemon<Backups> {
    static constexpr bool system_mode = false;

    void SetUp() override {
        static int number = 0;
        name = "guest-" + std::to_string(++number);
        disk = bed().folder / (name + ".qcow2");
        ASSERT_TRUE(
            shell("qemu-img create -q -f qcow2 " + disk + " 16M && qemu-io -f qcow2 -c 'write -P 5 1M 2M' " + disk));
        path = text_of(client.call(
            root, manager, "DefineDomain", "sa{sv}",
            ("<domain type='qemu'><name>" + name +
             "</name><memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>"
             "<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='" +
             disk + "'/><target dev='vda' bus='virtio'/></disk></devices></domain>")
                .c_str(),
            0));
        ASSERT_THAT(path, StartsWith(root + "/domain/"));
    }
    void TearDown() override { verb(path, "Stop"); }

    static bool shell(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }
    void run() { ASSERT_EQ(text_of(verb(path, "Start")), "/"); }
    Answer create(const std::string& called) {
        return client.call(path, domain, "CreateCheckpoint", "sa{sv}",
                           ("<domaincheckpoint><name>" + called + "</name></domaincheckpoint>").c_str(), 0);
    }
    Answer begin(const std::string& xml, const std::string& with_checkpoint = "") {
        if (with_checkpoint.empty()) return client.call(path, backup, "Begin", "sa{sv}", xml.c_str(), 0);
        const auto made = "<domaincheckpoint><name>" + with_checkpoint + "</name></domaincheckpoint>";
        return client.call(path, backup, "Begin", "sa{sv}", xml.c_str(), 1, "checkpoint", "s", made.c_str());
    }
    static std::string push(const std::string& file, const std::string& since = "") {
        return "<domainbackup mode='push'>" + (since.empty() ? "" : "<incremental>" + since + "</incremental>") +
               "<disks><disk name='vda' type='file'><target file='" + file +
               "'/><driver type='qcow2'/></disk></disks></domainbackup>";
    }
    bool same(const std::string& one, const std::string& two) {
        return shell("qemu-img compare -U " + one + " " + two);
    }

    std::string name, disk, path;
};

TEST_F(Backups, CheckpointsComeAndGoWithTheirSignals) {
    EXPECT_EQ(create("early").error, error_prefix + "InvalidState") << "it does not run";
    run();
    listen();
    const std::string one = text_of(create("one"));
    ASSERT_EQ(one, path + "/checkpoint/one");
    EXPECT_THAT(heard(path), Contains("InterfacesAdded"));
    const std::string two = text_of(create("two"));
    ASSERT_EQ(two, path + "/checkpoint/two");
    EXPECT_EQ(property(client, two, checkpoint, "Parent"), one);
    EXPECT_EQ(property(client, two, checkpoint, "Current"), "1");
    EXPECT_EQ(property(client, one, checkpoint, "Current"), "0");
    EXPECT_EQ(create("two").error, error_prefix + "AlreadyExists");
    EXPECT_EQ(text_of(client.call(path, domain, "GetCheckpoint", "s", "one")), one);
    const auto text = text_of(client.call(one, checkpoint, "GetXML", "a{sv}", 2, "size", "b", 1, "no-domain", "b", 1));
    EXPECT_THAT(text, AllOf(HasSubstr("size='"), HasSubstr("bitmap='one'"), Not(HasSubstr("<domain "))));
    EXPECT_EQ(text_of(client.call(one, checkpoint, "Delete", "a{sv}", 0)), "/");
    EXPECT_THAT(heard(path), Contains("InterfacesRemoved"));
    EXPECT_EQ(property(client, two, checkpoint, "Parent"), "/");
    EXPECT_EQ(client.call(path, domain, "GetCheckpoint", "s", "one").error, error_prefix + "NoSuchCheckpoint");
    EXPECT_EQ(verb(path, "Undefine").error, "");  // it runs on as a transient one and keeps its records
    EXPECT_EQ(property(client, two, checkpoint, "Name"), "two");
}

TEST_F(Backups, APushedBackupAndWhatFollowsAreWhole) {
    run();
    const std::string full = bed().folder / (name + ".full"), more = bed().folder / (name + ".more");
    EXPECT_EQ(text_of(begin(push(full), "first")), "/");
    EXPECT_EQ(property(client, path + "/checkpoint/first", checkpoint, "Current"), "1");
    EXPECT_TRUE(same(full, disk));
    EXPECT_EQ(text_of(begin(push(more, "first"), "second")), "/");
    EXPECT_TRUE(shell("qemu-img rebase -u -F qcow2 -b " + full + " " + more));
    EXPECT_TRUE(same(more, disk));
    EXPECT_EQ(begin(push(more + "x", "nobody")).error, error_prefix + "NoSuchCheckpoint");
    EXPECT_FALSE(std::filesystem::exists(more + "x"));
    EXPECT_EQ(begin(push(full)).error, error_prefix + "AlreadyExists") << "a file that is there is kept";
}

TEST_F(Backups, APulledBackupIsServedUntilItsEnd) {
    run();
    const std::string xml = "<domainbackup mode='pull'><disks><disk name='vda' type='file'/></disks></domainbackup>";
    const std::string serving = text_of(begin(xml));
    ASSERT_THAT(serving, StartsWith(root + "/job/"));
    EXPECT_EQ(property(client, serving, job, "Phase"), "serving");
    EXPECT_EQ(begin(xml).error, error_prefix + "Busy") << "one at a time";
    const std::string text = text_of(client.call(path, backup, "GetXML", "a{sv}", 0));
    const auto at = text.find("socket='");
    ASSERT_NE(at, text.npos) << text;
    const std::string socket = text.substr(at + 8, text.find('\'', at + 8) - at - 8);
    EXPECT_TRUE(same("nbd+unix:///vda?socket=" + socket, disk));
    EXPECT_TRUE(client.call(path, backup, "End", "a{sv}", 0).ok());
    EXPECT_EQ(property(client, serving, job, "State"), "succeeded");
    EXPECT_EQ(client.call(path, backup, "End", "a{sv}", 0).error, error_prefix + "InvalidState");
    EXPECT_FALSE(std::filesystem::exists(socket));
    const std::string again = text_of(begin(xml));
    EXPECT_TRUE(client.call(again, job, "Cancel", "a{sv}", 0).ok());
    EXPECT_TRUE(run_until([&] { return property(client, again, job, "State") == "cancelled"; }));
    EXPECT_EQ(client.call(path, backup, "GetXML", "a{sv}", 0).error, error_prefix + "InvalidState");
}

TEST_F(Backups, WhatIsRefusedSaysWhy) {
    const std::string file = bed().folder / (name + ".never");
    EXPECT_EQ(begin(push(file)).error, error_prefix + "InvalidState") << "it does not run";
    run();
    EXPECT_EQ(begin("<domain/>").error, error_prefix + "InvalidXML");
    EXPECT_EQ(begin("<domainbackup mode='sideways'/>").error, error_prefix + "InvalidXML");
    EXPECT_EQ(client.call(path, backup, "Begin", "sa{sv}", push(file).c_str(), 1, "colour", "b", 1).error,
              error_prefix + "InvalidOption");
    EXPECT_EQ(begin("<domainbackup><disks><disk name='vdx'/></disks></domainbackup>").error,
              error_prefix + "InvalidXML");
    EXPECT_FALSE(std::filesystem::exists(file));
}

}  // namespace
}  // namespace virtbus::tests
