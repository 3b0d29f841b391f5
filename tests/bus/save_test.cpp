// SPDX-License-Identifier: LGPL-2.1-or-later
// Save, managed save and restore over the bus, with the real daemon and the driver that runs nothing.
#include <filesystem>

#include "tests/bus/user_bed.hpp"

namespace virtbus::tests {
namespace {

using ::testing::HasSubstr;

struct Save : ::testing::Test {
    DaemonBed bed{false};
    std::unique_ptr<Client> client;

    void begin() {
        client.reset();
        ASSERT_TRUE(bed.start()) << read_file(bed.log());
        client = bed.connect();
    }
    std::string state(const std::string& path) { return property(*client, path, domain, "State"); }
    std::string reason(const std::string& path) { return property(*client, path, domain, "StateReason"); }
    std::string has_image(const std::string& path) { return property(*client, path, domain, "HasManagedSave"); }
    Answer verb(const std::string& path, const char* member) { return client->call(path, domain, member, "a{sv}", 0); }
    std::string file(const std::string& name = "saved") const { return bed.folder / name; }
    Answer save(const std::string& path) { return client->call(path, domain, "Save", "sa{sv}", file().c_str(), 0); }
    Answer restore() { return client->call(root, manager, "RestoreDomain", "sa{sv}", file().c_str(), 0); }
    /// A machine whose save never ends, in the middle of it.
    std::string in_the_middle() {
        const std::string path = define(*client, "slow", "hang-save='yes'");
        EXPECT_EQ(text_of(verb(path, "Start")), "/");
        job_path = text_of(client->call(path, domain, "ManagedSave", "a{sv}", 1, "no-wait", "b", 1));
        EXPECT_TRUE(bed.loop.run_until([&] { return state(path) == "paused"; }, patience));
        return path;
    }
    std::string job_path;
};

TEST_F(Save, AManagedSaveIsRestoredByStart) {
    begin();
    const std::string path = define(*client, "web");
    EXPECT_EQ(verb(path, "ManagedSave").error, error_prefix + "InvalidState");
    ASSERT_EQ(text_of(verb(path, "Start")), "/");
    EXPECT_EQ(text_of(client->call(path, domain, "ManagedSave", "a{sv}", 1, "compression", "s", "zstd")), "/");
    EXPECT_EQ(state(path) + " " + reason(path) + " " + has_image(path), "shutoff saved 1");
    EXPECT_EQ(verb(path, "Undefine").error, error_prefix + "HasManagedSave");
    EXPECT_EQ(text_of(verb(path, "Start")), "/");
    EXPECT_EQ(state(path) + " " + reason(path) + " " + has_image(path), "running restored 0");
    EXPECT_EQ(text_of(verb(path, "ManagedSave")), "/");
    EXPECT_TRUE(verb(path, "RemoveManagedSave").ok());
    EXPECT_EQ(text_of(verb(path, "Start")), "/");
    EXPECT_EQ(reason(path), "booted");
    EXPECT_EQ(bed.stop(), 0);
}

TEST_F(Save, AFileIsRestoredByTheManager) {
    begin();
    const std::string path =
        text_of(client->call(root, manager, "CreateDomain", "sa{sv}", test_xml("transient").c_str(), 0));
    ASSERT_EQ(text_of(save(path)), "/");
    EXPECT_EQ(state(path), "org.freedesktop.DBus.Error.UnknownObject");
    const Answer restored = restore();
    ASSERT_TRUE(restored.ok()) << restored.message;
    EXPECT_EQ(Client::text(restored), path) << "the domain's path comes first";
    EXPECT_EQ(state(path) + " " + reason(path), "running restored");
    EXPECT_EQ(restore().error, error_prefix + "InvalidState");
    EXPECT_EQ(client->call(path, domain, "Save", "sa{sv}", file("x").c_str(), 1, "compression", "s", "lha").error,
              error_prefix + "InvalidOption");
    std::filesystem::resize_file(file(), std::filesystem::file_size(file()) / 2);
    const Answer cut = restore();
    EXPECT_EQ(cut.error, error_prefix + "Unsupported");
    EXPECT_THAT(cut.message, HasSubstr(file() + " cannot be used: it is cut"));
    EXPECT_EQ(bed.stop(), 0);
}

TEST_F(Save, CancellingItsJobLetsTheMachineRunOn) {
    begin();
    const std::string path = in_the_middle();
    EXPECT_EQ(property(*client, job_path, job, "Operation"), "managed-save");
    EXPECT_TRUE(client->call(job_path, job, "Cancel", "a{sv}", 0).ok());
    EXPECT_TRUE(bed.loop.run_until([&] { return state(path) == "running"; }, patience));
    EXPECT_TRUE(bed.loop.run_until([&] { return property(*client, job_path, job, "State") == "cancelled"; }, patience));
    EXPECT_EQ(has_image(path), "0");
    EXPECT_EQ(bed.stop(), 0);
}

TEST_F(Save, StopGetsThrough) {
    begin();
    const std::string path = in_the_middle();
    EXPECT_EQ(text_of(verb(path, "Stop")), "/");
    EXPECT_EQ(state(path) + " " + reason(path) + " " + has_image(path), "shutoff destroyed 0");
    EXPECT_EQ(bed.stop(), 0);
}

TEST_F(Save, ADaemonKilledInTheMiddleLeavesARunningMachine) {
    begin();
    const std::string path = in_the_middle();
    bed.stop(SIGKILL);
    begin();
    EXPECT_EQ(state(path) + " " + reason(path) + " " + has_image(path), "running save-canceled 0");
    EXPECT_TRUE(std::filesystem::is_empty(bed.folder / "STATE/save"));
    EXPECT_EQ(bed.stop(), 0);
}

TEST_F(Save, ACallerThatLeavesDoesNotCancel) {
    begin();
    const std::string path = define(*client, "web", "save-ms='300'");
    ASSERT_EQ(text_of(verb(path, "Start")), "/");
    auto other = bed.connect();
    (void)other->start(path, domain, "ManagedSave", "a{sv}", 0);
    ASSERT_TRUE(bed.loop.run_until([&] { return state(path) == "paused"; }, patience));
    other.reset();
    EXPECT_TRUE(bed.loop.run_until([&] { return state(path) == "shutoff"; }, patience));
    EXPECT_EQ(has_image(path), "1");
    EXPECT_EQ(bed.stop(), 0);
}

}  // namespace
}  // namespace virtbus::tests
