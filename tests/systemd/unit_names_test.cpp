// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "systemd/process.hpp"
#include "systemd/transient_units.hpp"
#include "systemd/unit_properties.hpp"
#include "virtbus/error.hpp"

namespace virtbus::systemd {
namespace {

UnitRequest named(const std::string& name) {
    UnitRequest request;
    request.driver = "qemu";
    request.id = 3;
    request.name = name;
    return request;
}

TEST(UnitNames, EscapeWhatAUnitsNameCannotHold) {
    EXPECT_EQ(unit_name(named("web")), "virtbus-qemu-3-web.service");
    EXPECT_EQ(unit_name(named("a b-c@d")), "virtbus-qemu-3-a\\x20b\\x2dc\\x40d.service");
    EXPECT_EQ(unit_name(named(".x.y")), "virtbus-qemu-3-\\x2ex.y.service");
    EXPECT_EQ(unit_name(named("ä")), "virtbus-qemu-3-\\xc3\\xa4.service");
}

TEST(UnitNames, StayShortEnough) {
    EXPECT_LE(unit_name(named(std::string(300, 'a'))).size(), 255u);
    const auto escaped = unit_name(named(std::string(300, ' ')));
    EXPECT_LE(escaped.size(), 255u);
    EXPECT_TRUE(escaped.ends_with("\\x20.service")) << "no half escape";
}

TEST(MachineNames, AreWhatMachinedTakes) {
    EXPECT_EQ(machine_name(named("web")), "qemu-3-web");
    EXPECT_EQ(machine_name(named("--a..b__c--")), "qemu-3-a-b-c");
    EXPECT_LE(machine_name(named(std::string(300, 'a'))).size(), 64u);
    EXPECT_NE(machine_name(named(std::string(55, 'a') + "-------")).back(), '-');
}

TEST(SliceNames, ComeFromPartitions) {
    EXPECT_EQ(slice_name("/machine/production"), "machine-production.slice");
    EXPECT_EQ(slice_name("machine.slice"), "machine.slice");
    EXPECT_EQ(slice_name("/"), "-.slice");
    EXPECT_EQ(slice_name("/a-b/c"), "a\\x2db-c.slice");
}

bool has(const UnitProperties& all, const std::string& name) {
    return std::ranges::any_of(all, [&](const auto& property) { return property.template get<0>() == name; });
}

UnitProperties properties_of(const UnitRequest& request, const TransientUnits::Options& options) {
    return unit_properties(request, options, 0, account_of(request, options.account));
}

template <class T>
T value(const UnitProperties& all, const std::string& name) {
    const auto found = std::ranges::find(all, name, [](auto& each) { return std::get<0>(each); });
    if (found == all.end()) throw std::out_of_range{name};
    return std::get<1>(*found).template get<T>();
}

TEST(UnitProperties, TheSystemsSandboxIsWhole) {
    auto request = named("web");
    request.devices = {"/dev/kvm"};
    const TransientUnits::Options options{"/usr/libexec/virtbus/virtbus-launch", Account{990, 990, {990, 36}}, true};
    const auto all = properties_of(request, options);
    for (const auto* name : {"User", "NoNewPrivileges", "PrivateMounts", "ProtectSystem", "ProtectHome", "DevicePolicy",
                             "DeviceAllow", "CapabilityBoundingSet", "RestrictAddressFamilies", "Slice", "Before"})
        EXPECT_TRUE(has(all, name)) << name;
}

TEST(UnitProperties, AHelperGoesWithItsMachineAndMayDoLess) {
    auto request = named("web-swtpm");
    const auto machine = unit_name(request);
    request.name = "web";
    request.helper = "swtpm";
    EXPECT_EQ(unit_name(request), "virtbus-qemu-3-web-swtpm.service");
    EXPECT_NE(unit_name(request), machine) << "no name of a machine is a helper's";
    for (const bool system : {true, false}) {
        const TransientUnits::Options options{"/usr/libexec/virtbus/virtbus-launch", std::nullopt, system};
        const auto all = properties_of(request, options);
        for (const auto* name : {"PartOf", "Before", "SystemCallFilter", "MemoryDenyWriteExecute"})
            EXPECT_TRUE(has(all, name)) << name;
        EXPECT_EQ(has(all, "PrivateNetwork"), system);
    }
    EXPECT_FALSE(has(properties_of(named("web"), {"/launch", std::nullopt, true}), "PartOf"));
}

TEST(UnitProperties, AUsersManagerIsAskedForNothingItCannotGrant) {
    const TransientUnits::Options options{"/usr/libexec/virtbus/virtbus-launch", std::nullopt, false};
    const auto all = properties_of(named("web"), options);
    EXPECT_TRUE(has(all, "NoNewPrivileges"));
    for (const auto* name : {"User", "PrivateMounts", "ProtectSystem", "DevicePolicy", "Slice"})
        EXPECT_FALSE(has(all, name)) << name;
}

TEST(UnitProperties, AServiceOfTheHostIsItsAccountWithItsCapabilities) {
    auto request = named("web");
    request.driver = "network";
    request.account = "daemon";  // every host has it
    request.capabilities = 0x3400;
    request.network = true;
    request.writable = {"/run/virtbus/network/x"};
    EXPECT_EQ(unit_name(request), "virtbus-network-3-web.service");
    const TransientUnits::Options options{"/usr/libexec/virtbus/virtbus-launch", Account{990, 990, {990, 36}}, true};
    const auto all = properties_of(request, options);
    EXPECT_EQ(value<std::string>(all, "User"), std::to_string(find_account("daemon")->uid));
    EXPECT_EQ(value<std::string>(all, "Slice"), "system.slice");
    EXPECT_EQ(value<std::uint64_t>(all, "CapabilityBoundingSet"), 0x3400u);
    EXPECT_EQ(value<std::uint64_t>(all, "AmbientCapabilities"), 0x3400u);
    EXPECT_TRUE(value<bool>(all, "RestrictSUIDSGID"));
    EXPECT_EQ(value<std::string>(all, "ProtectHome"), "yes");
    for (const auto* name : {"RestrictNamespaces", "SystemCallFilter", "MemoryDenyWriteExecute", "ProtectSystem"})
        EXPECT_TRUE(has(all, name)) << name;
    EXPECT_FALSE(has(all, "PartOf")) << "it goes with no machine";
    request.shared = {"/home/u/tftp"};
    const auto sharing = properties_of(request, options);
    EXPECT_FALSE(has(sharing, "ProtectHome")) << "what it reads may be there";
    EXPECT_EQ(value<std::vector<std::string>>(sharing, "ReadWritePaths"), request.writable);
    request.account = "no-such-user-here";
    EXPECT_FALSE(has(properties_of(request, options), "User"));
}

TEST(UnitProperties, AHelperWithTheNetworkMayLeaveTheRestForNamespaces) {
    auto request = named("web");
    request.helper = "passt_net0";
    const TransientUnits::Options options{"/usr/libexec/virtbus/virtbus-launch", Account{990, 990, {990}}, true};
    const auto without = properties_of(request, options);
    EXPECT_TRUE(has(without, "RestrictNamespaces") && has(without, "PrivateNetwork"));
    request.network = true;
    const auto with = properties_of(request, options);
    EXPECT_FALSE(has(with, "RestrictNamespaces") || has(with, "PrivateNetwork"));
    EXPECT_EQ(value<std::uint64_t>(with, "CapabilityBoundingSet"), 0u);
    EXPECT_EQ(value<std::string>(with, "User"), "990");
}

TEST(UnitProperties, LimitsAreSetWhereGiven) {
    auto request = named("web");
    const TransientUnits::Options options{"/usr/libexec/virtbus/virtbus-launch", std::nullopt, true};
    EXPECT_FALSE(has(properties_of(request, options), "CPUWeight"));
    request.limits.cpu_weight = 50;
    request.limits.memory_max = 1ULL << 30;
    request.limits.devices = {{"/dev/vda", std::nullopt, 1000, std::nullopt, std::nullopt, std::nullopt}};
    const auto all = properties_of(request, options);
    for (const auto* name : {"CPUWeight", "MemoryMax", "IOReadBandwidthMax"}) EXPECT_TRUE(has(all, name)) << name;
    for (const auto* name : {"CPUQuotaPerSecUSec", "MemoryHigh", "IODeviceWeight", "AllowedMemoryNodes"})
        EXPECT_FALSE(has(all, name)) << name;
    request.limits.memory_nodes = {0, 9};
    const auto bound = properties_of(request, options);
    const auto nodes = std::ranges::find(bound, "AllowedMemoryNodes", [](auto& each) { return std::get<0>(each); });
    ASSERT_NE(nodes, bound.end());
    EXPECT_EQ(std::get<1>(*nodes).template get<std::vector<std::uint8_t>>(), (std::vector<std::uint8_t>{1, 2}));
}

TEST(DeviceNodes, BecomeTheGuestsUsersAndNothingElseDoes) {
    if (::geteuid() != 0) GTEST_SKIP() << "making device nodes needs root";
    char folder[] = "/tmp/virtbus-nodes-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    const std::string node = std::string{folder} + "/12", file = std::string{folder} + "/file";
    const Account account{12345, 23456, {}};
    if (::mknod(node.c_str(), S_IFCHR | 0600, makedev(1, 3)) == 0) {
        give_nodes({node, std::string{folder} + "/missing"}, account);
        struct stat facts{};
        ASSERT_EQ(::stat(node.c_str(), &facts), 0);
        EXPECT_EQ(facts.st_uid, 12345u);
        EXPECT_EQ(facts.st_gid, 23456u);
    }
    ::close(::open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    EXPECT_THROW(give_nodes({file}, account), Error);
    std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace virtbus::systemd
