// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices plugged, changed and unplugged over the bus, in domains that run nothing.
#include "tests/bus/user_bed.hpp"

namespace virtbus::tests {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string disk = "<disk type='file'><source file='/images/more.img'/><target dev='vdq' bus='virtio'/></disk>";

struct Devices : SharedDaemon<Devices> {
    static constexpr bool system_mode = false;

    std::string running(const std::string& name, const std::string& behaviour = "") {
        const auto path = define(client, name, behaviour);
        EXPECT_EQ(text_of(verb(path, "Start")), "/");
        return path;
    }
    Answer change(const std::string& path, const char* member, const std::string& xml, const char* scope = "live") {
        return client.call(path, domain, member, "sa{sv}", xml.c_str(), 1, "scope", "s", scope);
    }
    std::string disks(const std::string& path) { return property(client, path, domain, "Disks"); }
    std::string stored(const std::string& path) {
        return text_of(client.call(path, domain, "GetXML", "a{sv}", 1, "inactive", "b", 1));
    }
};

TEST_F(Devices, ComeAndGoWithTheirSignalsBeforeTheAnswer) {
    listen();
    const auto path = running("plugged");
    client.signals.clear();
    ASSERT_TRUE(change(path, "AttachDevice", disk).ok());
    EXPECT_TRUE(has_heard(path, "DeviceAdded"));
    EXPECT_TRUE(has_heard(path, "PropertiesChanged"));
    EXPECT_THAT(disks(path), HasSubstr("/images/more.img"));
    EXPECT_THAT(property(client, path, domain, "Updated"), HasSubstr("1"));
    EXPECT_THAT(stored(path), Not(HasSubstr("more.img")));
    ASSERT_TRUE(change(path, "DetachDevice", disk).ok());
    EXPECT_TRUE(has_heard(path, "DeviceRemoved"));
    EXPECT_THAT(disks(path), Not(HasSubstr("/images/more.img")));
}

TEST_F(Devices, HaveAScope) {
    const auto path = running("scoped");
    ASSERT_TRUE(change(path, "AttachDevice", disk, "persistent").ok());
    EXPECT_THAT(disks(path), Not(HasSubstr("more.img")));
    EXPECT_THAT(stored(path), HasSubstr("more.img"));
    EXPECT_EQ(change(path, "DetachDevice", disk, "both").error, error_prefix + "NoSuchDevice") << "it is not live";
    EXPECT_THAT(stored(path), HasSubstr("more.img")) << "refused before the first change";
    EXPECT_EQ(change(path, "AttachDevice", disk, "everywhere").error, error_prefix + "InvalidOption");
}

TEST_F(Devices, RefusalsHaveTheirNames) {
    const auto path = running("refusing", "fail-attach='no room'");
    EXPECT_EQ(change(path, "AttachDevice", "<disk").error, error_prefix + "InvalidXML");
    EXPECT_EQ(change(path, "AttachDevice", "<spoon/>").error, error_prefix + "InvalidXML");
    EXPECT_EQ(change(path, "DetachDevice", disk).error, error_prefix + "NoSuchDevice");
    EXPECT_EQ(change(path, "AttachDevice", disk).error, error_prefix + "HypervisorFailed");
    EXPECT_THAT(disks(path), Not(HasSubstr("more.img")));
    const auto idle = define(client, "idle");
    EXPECT_EQ(change(idle, "AttachDevice", disk, "live").error, error_prefix + "InvalidState");
}

TEST_F(Devices, AGuestMayTakeItsTime) {
    listen();
    const auto path = running("slow", "unplug-delay-ms='200' unplug-wait-ms='20'");
    ASSERT_TRUE(change(path, "AttachDevice", disk).ok());
    EXPECT_EQ(change(path, "DetachDevice", disk).error, error_prefix + "Timeout");
    EXPECT_TRUE(run_until([&] { return has_heard(path, "DeviceRemoved"); })) << "the request stands";
    EXPECT_THAT(disks(path), Not(HasSubstr("more.img")));
}

TEST_F(Devices, MemoryChangesWhileItRuns) {
    const auto path = running("balloon");
    EXPECT_TRUE(client.call(path, domain, "SetMemory", "ta{sv}", std::uint64_t{32} << 20, 0).ok());
    EXPECT_TRUE(run_until([&] { return property(client, path, domain, "Memory") == "33554432"; }));
    EXPECT_EQ(client.call(path, domain, "SetMemory", "ta{sv}", std::uint64_t{1} << 40, 0).error,
              "org.freedesktop.DBus.Error.InvalidArgs");
}

}  // namespace
}  // namespace virtbus::tests
