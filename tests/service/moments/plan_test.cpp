// SPDX-License-Identifier: LGPL-2.1-or-later
#include <gtest/gtest.h>

#include "service/definition.hpp"
#include "service/moments/snapshot_plan.hpp"
#include "service/xml/moment_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus {
namespace {

constexpr const char* two_disks = R"(
  <disk type='file' device='disk'><driver type='qcow2'/><source file='/img/a.b/root.qcow2'/><target dev='vda'/></disk>
  <disk type='file' device='disk'><driver type='raw'/><source file='/img/data.img'/><target dev='vdb'/></disk>
  <disk type='file' device='cdrom'><source file='/img/cd.iso'/><target dev='sda'/><readonly/></disk>)";
constexpr const char* one_disk = R"(
  <disk type='file' device='disk'><driver type='qcow2'/><source file='/img/root'/><target dev='vda'/></disk>)";

DomainConfig domain(const std::string& disks, const std::string& os = "") {
    return understand("<domain type='test'><name>web</name><memory>1024</memory><os><type arch='x86_64'>hvm</type>" +
                          os + "</os><devices>" + disks + "</devices></domain>",
                      false)
        .config;
}

struct Case {
    DomainConfig config = domain(one_disk);
    State state = State::shutoff;
    bool persistent = true;
    SnapshotCreateOptions options{};
};

MomentEntry plan(const std::string& inner, const Case& now) {
    const auto wanted = xml::parse_snapshot("<domainsnapshot><name>s1</name>" + inner + "</domainsnapshot>");
    return plan_snapshot(wanted, now.options, {now.config, now.state, now.persistent}, 1'700'000'000'000'000);
}

Code refusal(const std::string& inner, const Case& now, const std::string& about = "") {
    try {
        plan(inner, now);
    } catch (const Error& e) {
        EXPECT_NE(std::string{e.what()}.find(about), std::string::npos) << e.what();
        return e.code();
    }
    ADD_FAILURE() << "not refused";
    return Code::internal;
}

Case running(const std::string& disks = one_disk, SnapshotCreateOptions options = {}) {
    return {domain(disks), State::running, true, options};
}

SnapshotCreateOptions disk_only() {
    return {.disk_only = true};
}

TEST(Plan, OfAnInactiveDomainIsInsideItsImages) {
    const auto entry = plan("", {});
    EXPECT_EQ(entry.kind, SnapshotKind::internal);
    EXPECT_EQ(entry.state, "shutoff");
    ASSERT_EQ(entry.disks.size(), 1u);
    EXPECT_EQ(entry.disks[0].place, SnapshotPlace::internal);
    EXPECT_EQ(entry.disks[0].frozen, (ImageFile{"/img/root", "qcow2"}));
    EXPECT_EQ(entry.creation_time, 1'700'000'000'000'000u);
}

TEST(Plan, OfARunningDomainHasTheMemoryInside) {
    EXPECT_EQ(plan("", running()).kind, SnapshotKind::internal);
    EXPECT_EQ(plan("<memory snapshot='internal'/>", running()).state, "running");
}

TEST(Plan, DiskOnlyPutsOverlaysBesideTheImages) {
    const auto entry = plan("", running(two_disks, disk_only()));
    EXPECT_EQ(entry.kind, SnapshotKind::disk_only);
    EXPECT_EQ(entry.state, "disk-snapshot");
    EXPECT_EQ(entry.disks[0].overlay, (ImageFile{"/img/a.b/root.s1", "qcow2"}));
    EXPECT_EQ(entry.disks[1].overlay, (ImageFile{"/img/data.s1", "qcow2"}));
    EXPECT_EQ(entry.disks[1].frozen.format, "raw");
    EXPECT_EQ(entry.disks[2].place, SnapshotPlace::no);
    EXPECT_EQ(plan("", running(one_disk, disk_only())).disks[0].overlay.path, "/img/root.s1");
}

TEST(Plan, DiskOnlyOfAnInactiveDomainIsShutoff) {
    const auto entry = plan("", {domain(two_disks), State::shutoff, true, disk_only()});
    EXPECT_EQ(entry.state, "shutoff");
    EXPECT_EQ(entry.kind, SnapshotKind::external);
}

TEST(Plan, AFileForTheMemoryMakesItExternal) {
    const auto entry = plan("<memory file='/img/mem'/>", running(two_disks));
    EXPECT_EQ(entry.kind, SnapshotKind::external);
    EXPECT_EQ(entry.state, "running");
    EXPECT_EQ(entry.memory_file, "/img/mem");
    EXPECT_EQ(refusal("<memory snapshot='external'/>", running()), Code::invalid_xml);
    EXPECT_EQ(refusal("<memory snapshot='internal' file='/img/mem'/>", running()), Code::invalid_xml);
}

TEST(Plan, DisksAreNamedByTargetOrSource) {
    const auto by_source = plan("<disks><disk name='/img/data.img' snapshot='no'/></disks>", running(two_disks));
    EXPECT_EQ(by_source.disks[1].place, SnapshotPlace::no);
    EXPECT_EQ(refusal("<disks><disk name='vdz'/></disks>", running(), "vdz"), Code::invalid_xml);
    EXPECT_EQ(refusal("<disks><disk name='vda'/><disk name='/img/root'/></disks>", running(), "twice"),
              Code::invalid_xml);
}

TEST(Plan, TheDomainsOwnWordIsTheDefault) {
    const auto config = domain(R"(
      <disk type='file' device='disk'><driver type='qcow2'/><source file='/img/a'/><target dev='vda'/></disk>
      <disk type='file' device='disk' snapshot='no'><driver type='raw'/><source file='/img/b'/><target dev='vdb'/></disk>)");
    EXPECT_EQ(plan("", {config}).disks[1].place, SnapshotPlace::no);
}

TEST(Plan, InsideNeedsQcow2OnEveryWritableDisk) {
    EXPECT_EQ(refusal("", {domain(two_disks)}, "vdb"), Code::unsupported_configuration);
    EXPECT_EQ(refusal("", running(two_disks), "vdb"), Code::unsupported_configuration);
}

TEST(Plan, MixedPlacesAreRefused) {
    const std::string mixed =
        "<disks><disk name='vda' snapshot='internal'/><disk name='vdb' snapshot='external'/>"
        "</disks>";
    EXPECT_EQ(refusal(mixed, {domain(two_disks)}, "mixed"), Code::unsupported_configuration);
    EXPECT_EQ(
        refusal("<disks><disk name='vda' snapshot='internal'/></disks>", running(two_disks, disk_only()), "mixed"),
        Code::unsupported_configuration);
    EXPECT_EQ(refusal("<memory snapshot='internal'/><disks><disk name='vda' snapshot='external'/></disks>", running(),
                      "mixed"),
              Code::unsupported_configuration);
}

TEST(Plan, ExternalDisksOfARunningDomainNeedAWordOnTheMemory) {
    const std::string external = "<disks><disk name='vda' snapshot='external'/></disks>";
    EXPECT_EQ(refusal(external, running(), "disk-only"), Code::unsupported_configuration);
    EXPECT_EQ(plan(external, {}).kind, SnapshotKind::external);
    EXPECT_EQ(refusal("<memory snapshot='no'/>", running(), "disk-only"), Code::unsupported_configuration);
}

TEST(Plan, MemoryNeedsARunningDomain) {
    EXPECT_EQ(refusal("<memory snapshot='internal'/>", {}, "shutoff"), Code::unsupported_configuration);
    EXPECT_EQ(plan("<memory snapshot='no'/>", {}).kind, SnapshotKind::internal);
    EXPECT_EQ(refusal("<memory snapshot='internal'/>", running(one_disk, disk_only())), Code::conflicting_options);
}

TEST(Plan, ADiskMustTakePart) {
    EXPECT_EQ(refusal("<disks><disk name='vda' snapshot='no'/></disks>", running(one_disk, disk_only())),
              Code::unsupported_configuration);
    EXPECT_EQ(refusal("<disks><disk name='vda' snapshot='no'/></disks>", running(), "hold the memory"),
              Code::unsupported_configuration);
}

TEST(Plan, OverlaysMustBeNewNames) {
    const auto overlay = [](const std::string& disk, const std::string& file) {
        return "<disk name='" + disk + "'><source file='" + file + "'/></disk>";
    };
    EXPECT_EQ(refusal("<disks>" + overlay("vda", "/img/x") + overlay("vdb", "/img/x") + "</disks>",
                      running(two_disks, disk_only())),
              Code::invalid_xml);
    EXPECT_EQ(refusal("<disks>" + overlay("vda", "/img/data.img") + "</disks>", running(two_disks, disk_only()), "vdb"),
              Code::unsupported_configuration);
    EXPECT_EQ(refusal("<disks>" + overlay("vda", "x") + "</disks>", running(two_disks, disk_only()), "absolute"),
              Code::invalid_xml);
}

TEST(Plan, ABlockDevicesOverlayMustBeNamed) {
    const auto config = domain(
        "<disk type='block' device='disk'><driver type='raw'/><source dev='/dev/vg/a'/><target dev='vda'/></disk>");
    EXPECT_EQ(refusal("", {config, State::running, true, disk_only()}, "must be named"),
              Code::unsupported_configuration);
    const auto entry = plan("<disks><disk name='vda'><source file='/img/o'/></disk></disks>",
                            {config, State::running, true, disk_only()});
    EXPECT_TRUE(entry.disks[0].frozen.block_device);
    EXPECT_EQ(entry.disks[0].overlay.path, "/img/o");
}

TEST(Plan, ManualDisksNeedTheGuestToStandStill) {
    const std::string manual = "<disks><disk name='vda' snapshot='manual'/></disks>";
    EXPECT_EQ(refusal(manual, running(one_disk, disk_only()), "Suspend"), Code::invalid_state);
    auto paused = running(one_disk, disk_only());
    paused.state = State::paused;
    EXPECT_EQ(plan(manual, paused).disks[0].place, SnapshotPlace::manual);
}

TEST(Plan, ARunningDomainsRawStoreIsNamed) {
    const std::string os = "<loader readonly='yes' type='pflash'>/f/CODE.fd</loader>";
    Case raw{domain(one_disk, os + "<nvram format='raw'>/n/VARS.fd</nvram>"), State::running};
    EXPECT_EQ(refusal("", raw, "/n/VARS.fd"), Code::unsupported_configuration);
    raw.state = State::shutoff;
    EXPECT_EQ(plan("", raw).kind, SnapshotKind::internal);
    const Case qcow2{domain(one_disk, os + "<nvram format='qcow2'>/n/VARS.qcow2</nvram>"), State::running};
    EXPECT_EQ(plan("", qcow2).kind, SnapshotKind::internal);
}

TEST(Plan, OptionsThatExcludeEachOther) {
    for (const SnapshotCreateOptions& options :
         std::initializer_list<SnapshotCreateOptions>{{.current = true},
                                                      {.redefine = true, .no_metadata = true},
                                                      {.redefine = true, .halt = true},
                                                      {.redefine = true, .live = true},
                                                      {.quiesce = true},
                                                      {.disk_only = true, .live = true}}) {
        try {
            check_options(options);
            ADD_FAILURE();
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), Code::conflicting_options);
        }
    }
    EXPECT_NO_THROW(check_options({.redefine = true, .current = true}));
    EXPECT_NO_THROW(check_options({.disk_only = true, .quiesce = true}));
}

TEST(Plan, WhatLiveHaltAndQuiesceNeed) {
    EXPECT_EQ(refusal("", running(one_disk, {.live = true}), "external memory"), Code::conflicting_options);
    EXPECT_EQ(refusal("", {domain(one_disk), State::shutoff, true, {.live = true}}), Code::invalid_state);
    EXPECT_EQ(plan("<memory file='/img/mem'/>", running(one_disk, {.live = true})).kind, SnapshotKind::external);
    EXPECT_EQ(refusal("", {domain(one_disk), State::running, false, {.halt = true}}), Code::invalid_state);
    EXPECT_EQ(plan("", running(one_disk, {.halt = true})).kind, SnapshotKind::internal);
    EXPECT_EQ(refusal("", {domain(one_disk), State::paused, true, {.disk_only = true, .quiesce = true}}),
              Code::invalid_state);
}

}  // namespace
}  // namespace virtbus
