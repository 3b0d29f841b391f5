// SPDX-License-Identifier: LGPL-2.1-or-later
// Redefinitions: each rule refuses with a sentence and leaves the tree alone; what keeps them becomes the entry.
#include "service/moments/redefine.hpp"

#include <gtest/gtest.h>

#include <functional>

#include "service/xml/moment_xml.hpp"
#include "virtbus/error.hpp"

namespace virtbus::tests {
namespace {

constexpr const char* uuid = "11111111-2222-3333-4444-555555555555";
constexpr const char* other_uuid = "11111111-2222-3333-4444-666666666666";

std::string domain(const std::string& memory = "1024", const std::string& of = uuid, const std::string& more = "") {
    return "<domain type='qemu'><name>d</name><uuid>" + of + "</uuid><memory>" + memory +
           "</memory><os><type>hvm</type></os>" + more +
           "<devices><disk type='file'><driver name='qemu' type='qcow2'/><source file='/img/a'/><target "
           "dev='vda'/></disk></devices></domain>";
}
SnapshotConfig snapshot(const std::string& name = "s", const std::string& state = "running") {
    SnapshotConfig config;
    config.name = name, config.state = state, config.creation_time = 1'700'000'000, config.domain = domain();
    return config;
}
CheckpointConfig checkpoint(const std::string& name = "c") {
    CheckpointConfig config;
    config.name = name, config.creation_time = 1'700'000'000, config.domain = domain();
    config.disks = {{.name = "vda", .checkpoint = "bitmap"}};
    return config;
}
MomentEntry entry(const std::string& name, const std::string& parent = "", const std::string& state = "running") {
    MomentEntry e;
    e.id = "old-" + name, e.name = name, e.parent = parent, e.state = state;
    return e;
}
MomentIndex tree() {
    MomentIndex index;
    index.add(entry("root"));
    index.add(entry("s", "root"));
    index.add(entry("leaf", "s"));
    index.set_current("leaf");
    return index;
}

/// A redefinition of snapshot `s` that is changed in one way; the error, and whether the tree was left alone.
void expect_refused(const std::function<void(SnapshotConfig&)>& change, Code code, const std::string& part,
                    RedefineOptions options = {}, const Replaced& replaced = {}) {
    auto index = tree();
    auto config = snapshot();
    config.parent = "root";
    change(config);
    try {
        redefine(index, config, uuid, "id", replaced, options);
        ADD_FAILURE() << "not refused: " << part;
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), code) << e.what();
        EXPECT_NE(std::string{e.what()}.find(part), std::string::npos) << e.what();
    }
    EXPECT_EQ(index, tree());
}

TEST(Redefine, ANewOne) {
    auto index = tree();
    auto config = snapshot("new");
    config.parent = "leaf", config.description = "text", config.creation_time = 5;
    config.memory = SnapshotMemory{SnapshotPlace::external, "/mem", {}};
    const auto made = redefine(index, config, uuid, "id", {});
    EXPECT_EQ(made.replaces, "");
    EXPECT_EQ(made.warning, "");
    EXPECT_EQ(index.get("new"), made.entry);
    EXPECT_EQ(made.entry.id, "id");
    EXPECT_EQ(made.entry.parent, "leaf");
    EXPECT_EQ(made.entry.description, "text");
    EXPECT_EQ(made.entry.creation_time, 5'000'000u);
    EXPECT_EQ(made.entry.kind, SnapshotKind::external);
    EXPECT_EQ(made.entry.memory_file, "/mem");
    EXPECT_TRUE(made.entry.has_domain);
    ASSERT_EQ(made.entry.disks.size(), 1u);
    EXPECT_EQ(made.entry.disks[0].frozen, (ImageFile{"/img/a", "qcow2", false}));
    EXPECT_EQ(index.current(), "leaf") << "current is another matter";
}

TEST(Redefine, NeedsTheCompleteXml) {
    expect_refused([](auto& c) { c.name.clear(); }, Code::invalid_xml, "<name> is missing");
    expect_refused([](auto& c) { c.name = "a/b"; }, Code::invalid_xml, "'/'");
    expect_refused([](auto& c) { c.creation_time.reset(); }, Code::invalid_xml, "<creationTime> is missing");
    expect_refused([](auto& c) { c.creation_time = 18'446'744'073'710; }, Code::invalid_xml, "too late");
    expect_refused([](auto& c) { c.state.clear(); }, Code::invalid_xml, "<state> is missing");
    auto index = tree();
    auto latest = snapshot("new");
    latest.creation_time = 18'446'744'073'709;
    EXPECT_EQ(redefine(index, latest, uuid, "id", {}).entry.creation_time, 18'446'744'073'709'000'000u);
}

TEST(Redefine, Parents) {
    expect_refused([](auto& c) { c.parent = "gone"; }, Code::invalid_xml, "does not exist");
    expect_refused([](auto& c) { c.parent = "s"; }, Code::invalid_xml, "is itself");
    expect_refused([](auto& c) { c.parent = "leaf"; }, Code::invalid_xml, "descends from it");
    expect_refused([](auto& c) { c.name = c.parent = "new"; }, Code::invalid_xml, "is itself");
    auto index = tree();
    auto config = snapshot();
    redefine(index, config, uuid, "id", {});
    EXPECT_EQ(index.get("s").parent, "") << "none named";
    EXPECT_EQ(index.children("s"), std::vector<std::string>{"leaf"});
}

TEST(Redefine, TheDefinitionMustBeTheDomains) {
    expect_refused([](auto& c) { c.domain = domain("1024", other_uuid); }, Code::invalid_xml, other_uuid);
    expect_refused([](auto& c) { c.inactive_domain = domain("1024", other_uuid); }, Code::invalid_xml,
                   "inactiveDomain");
    expect_refused([](auto& c) { c.domain = "<domain type='qemu'/>"; }, Code::invalid_xml, "cannot be read");
    expect_refused([](auto& c) { c.inactive_domain = c.domain, c.domain.clear(); }, Code::invalid_xml, "no <domain>");
    expect_refused([](auto& c) { c.domain = domain("1024", uuid, "<mood/>"); }, Code::invalid_xml, "mood",
                   {.validate = true});
    auto index = tree();
    auto config = snapshot("new");
    config.domain = domain("1024", uuid, "<mood/>");
    EXPECT_NO_THROW(redefine(index, config, uuid, "id", {}));
}

TEST(Redefine, WithoutADefinitionItIsAcceptedWithAWarning) {
    auto index = tree();
    auto config = snapshot();
    config.domain.clear();
    const auto made = redefine(index, config, uuid, "id", {domain()});
    EXPECT_FALSE(made.entry.has_domain);
    EXPECT_NE(made.warning.find("'force'"), std::string::npos) << made.warning;
}

TEST(Redefine, DiskOnlyNeedsItsState) {
    expect_refused([](auto&) {}, Code::conflicting_options, "'disk-snapshot'", {.disk_only = true});
    auto index = tree();
    EXPECT_NO_THROW(redefine(index, snapshot("new", "disk-snapshot"), uuid, "id", {}, {.disk_only = true}));
    EXPECT_EQ(index.get("new").kind, SnapshotKind::disk_only);
}

TEST(Redefine, WhatHasNoMemory) {
    for (const auto* state : {"shutoff", "disk-snapshot"})
        expect_refused(
            [&](auto& c) {
                c.name = "new", c.state = state;
                c.memory = SnapshotMemory{SnapshotPlace::internal, "", {}};
            },
            Code::invalid_xml, "has no memory");
}

TEST(Redefine, ReplacingKeepsWhatItIs) {
    expect_refused([](auto& c) { c.state = "shutoff"; }, Code::invalid_xml, "do not mix");
    expect_refused([](auto& c) { c.state = "disk-snapshot"; }, Code::invalid_xml, "disks only");
    expect_refused([](auto& c) { c.domain = domain("2048"); }, Code::invalid_xml, "another machine", {}, {domain()});
    for (const auto& old : {std::string{}, std::string{"rubbish"}, domain("2048")}) {
        auto index = tree();
        EXPECT_NO_THROW(redefine(index,
                                 [] {
                                     auto config = snapshot("s", "paused");
                                     config.domain = domain("2048");
                                     return config;
                                 }(),
                                 uuid, "id", {old}))
            << old;
        EXPECT_EQ(index.get("s").state, "paused");
    }
}

TEST(Redefine, ReplacingKeepsStoresAndWhatIsKnownOfDisks) {
    MomentIndex index;
    auto before = entry("s");
    before.store_kept = before.tpm_kept = true;
    before.disks = {{"vda", SnapshotPlace::external, {"/a", "qcow2"}, {"/over", "qcow2"}, ""}};
    index.add(before);
    auto config = snapshot();
    config.domain.clear();
    const auto made = redefine(index, config, uuid, "new", {});
    EXPECT_EQ(made.replaces, "old-s");
    EXPECT_EQ(made.entry.id, "new");
    EXPECT_TRUE(made.entry.store_kept && made.entry.tpm_kept);
    EXPECT_EQ(made.entry.disks, before.disks);
}

TEST(Redefine, Checkpoints) {
    MomentIndex index{MomentKind::checkpoint};
    const auto made = redefine(index, checkpoint(), uuid, "id", {});
    ASSERT_EQ(made.entry.disks.size(), 1u);
    EXPECT_EQ(made.entry.disks[0].bitmap, "c");
    EXPECT_EQ(made.entry.disks[0].target, "vda");
    EXPECT_EQ(made.entry.state, "running");
    const auto refused = [&](const std::function<void(CheckpointConfig&)>& change) -> std::string {
        auto config = checkpoint();
        change(config);
        try {
            redefine(index, config, uuid, "id", {domain()});
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), Code::invalid_xml);
            return e.what();
        }
        return "";
    };
    EXPECT_NE(refused([](auto& c) { c.domain.clear(); }).find("<domain> is missing"), std::string::npos);
    EXPECT_NE(refused([](auto& c) { c.domain = domain("1024", other_uuid); }).find(other_uuid), std::string::npos);
    EXPECT_NE(refused([](auto& c) { c.domain = domain("4096"); }).find("another machine"), std::string::npos);
    EXPECT_NE(refused([](auto& c) { c.parent = "gone"; }).find("does not exist"), std::string::npos);
    EXPECT_NE(refused([](auto& c) { c.name = ".x"; }).find("checkpoint's name"), std::string::npos);
    EXPECT_EQ(refused([](auto&) {}), "");
}

}  // namespace
}  // namespace virtbus::tests
