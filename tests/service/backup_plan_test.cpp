// SPDX-License-Identifier: LGPL-2.1-or-later
// What wanted checkpoints and backups come down to: the rules and their borders, without a machine.
#include <gtest/gtest.h>

#include "service/moments/backup_plan.hpp"
#include "service/moments/checkpoint_note.hpp"
#include "service/moments/checkpoint_plan.hpp"
#include "virtbus/error.hpp"

namespace virtbus {
namespace {

Disk disk_of(const std::string& target, const std::string& path, const std::string& format) {
    Disk disk;
    disk.target.dev = target;
    disk.driver.emplace().type = format;
    disk.source.emplace().file = path;
    return disk;
}

/// vda is qcow2, vdb raw, vdc a qcow2 image that is only read, sda an empty drive.
DomainConfig machine() {
    DomainConfig config;
    config.name = "web";
    auto& disks = config.devices.disks;
    disks = {disk_of("vda", "/a.qcow2", "qcow2"), disk_of("vdb", "/b.raw", "raw"), disk_of("vdc", "/c.qcow2", "qcow2"),
             disk_of("sda", "", "raw")};
    disks[2].readonly = true;
    disks[3].device = DiskDevice::cdrom;
    disks[3].source.reset();
    return config;
}

template <class F>
std::pair<std::string, std::string> refusal(F work) {
    try {
        work();
    } catch (const Error& error) {
        return {std::string{word(error.code())}, error.what()};
    }
    return {"", "it was not refused"};
}
#define EXPECT_CODE(statement, code) EXPECT_EQ(refusal([&] { (void)(statement); }).first, code)

MomentEntry entry_of(const std::string& name, const std::string& parent, const std::vector<std::string>& targets) {
    MomentEntry entry;
    entry.id = entry.name = name;
    entry.parent = parent;
    for (const auto& target : targets) {
        MomentDisk disk;
        disk.target = target;
        disk.bitmap = name;
        entry.disks.push_back(disk);
    }
    return entry;
}

/// one - two - three, the second without vdb.
MomentIndex line() {
    MomentIndex index{MomentKind::checkpoint};
    index.add(entry_of("one", "", {"vda", "vdb"}));
    index.add(entry_of("two", "one", {"vda"}));
    index.add(entry_of("three", "two", {"vda", "vdb"}));
    index.set_current("three");
    return index;
}

using Names = std::vector<std::string>;

TEST(CheckpointPlan, TakesEveryWritableQcow2DiskUnlessToldOtherwise) {
    CheckpointConfig wanted;
    wanted.name = "now";
    auto entry = plan_checkpoint(wanted, machine(), 5);
    ASSERT_EQ(entry.disks.size(), 1U);
    EXPECT_EQ(entry.disks[0].target, "vda");
    EXPECT_EQ(entry.disks[0].bitmap, "now");
    const auto record = record_of(entry, wanted, machine());
    ASSERT_EQ(record.disks.size(), 4U);
    EXPECT_EQ(record.disks[0].checkpoint, "bitmap");
    EXPECT_EQ(record.disks[1].checkpoint, "no");
    wanted.disks.emplace_back().name = "/a.qcow2";
    wanted.disks[0].bitmap = "other";
    EXPECT_EQ(plan_checkpoint(wanted, machine(), 5).disks[0].bitmap, "other");
    wanted.disks[0].checkpoint = "no";
    EXPECT_CODE(plan_checkpoint(wanted, machine(), 5), "UnsupportedConfiguration");
    for (const char* none : {"vdb", "vdc", "sda"}) {
        wanted.disks = {CheckpointDisk{}};
        wanted.disks[0].name = none;
        EXPECT_CODE(plan_checkpoint(wanted, machine(), 5), "UnsupportedConfiguration") << none;
    }
    wanted.disks[0].name = "vdz";
    EXPECT_CODE(plan_checkpoint(wanted, machine(), 5), "InvalidXML");
}

TEST(CheckpointPlan, WhatChangedSinceIsInTheBitmapsFromThereOn) {
    const auto index = line();
    EXPECT_EQ(bitmaps_since(index, "one", "vda"), (Names{"three", "two", "one"}));
    EXPECT_EQ(bitmaps_since(index, "one", "vdb"), (Names{"three", "one"}));
    EXPECT_EQ(bitmaps_since(index, "three", "vda"), (Names{"three"}));
    EXPECT_CODE(bitmaps_since(index, "two", "vdb"), "CheckpointInconsistent");
    EXPECT_CODE(bitmaps_since(index, "four", "vda"), "NoSuchCheckpoint");
    auto branched = index;
    branched.add(entry_of("branch", "one", {"vda"}));
    EXPECT_CODE(bitmaps_since(branched, "branch", "vda"), "CheckpointInconsistent");
}

TEST(CheckpointPlan, OnlyTheLatestOfADiskRecords) {
    const auto index = line();
    EXPECT_EQ(nearest(index, "two", "vdb")->name, "one");
    EXPECT_EQ(nearest(index, "three", "vdc"), nullptr);
    auto two = index;
    two.remove("three");
    const auto changes = changes_for(entry_of("new", "two", {"vda", "vdb"}), two);
    ASSERT_EQ(changes.size(), 4U);
    EXPECT_EQ(changes[1].name, "two");
    EXPECT_EQ(changes[3].name, "one");
    EXPECT_EQ(changes[3].kind, BitmapChange::Kind::disable);
}

TEST(CheckpointPlan, ANoteComesBack) {
    const auto note = decode_checkpoint_note(encode({CheckpointNote::Verb::remove, entry_of("a b", "c", {"vda"})}));
    EXPECT_EQ(note.verb, CheckpointNote::Verb::remove);
    EXPECT_EQ(note.entry.name, "a b");
    EXPECT_EQ(note.entry.parent, "c");
    EXPECT_EQ(note.entry.disks[0].bitmap, "a b");
    for (const char* bad : {"", "create", "make\na\nb\n", "create\na\nb\nvda\n", "remove\na"})
        EXPECT_CODE(decode_checkpoint_note(bad), "Internal") << bad;
}

class BackupPlanning : public ::testing::Test {
protected:
    BackupPlan plan() {
        return plan_backup(wanted, {.name = "web",
                                    .config = config,
                                    .checkpoints = index,
                                    .suffix = "now",
                                    .reuse_external = reuse,
                                    .socket = "/run/default.sock",
                                    .tcp = tcp});
    }
    BackupDisk& say(const std::string& name) {
        wanted.disks.emplace_back().name = name;
        return wanted.disks.back();
    }
    DomainConfig config = machine();
    MomentIndex index = line();
    BackupConfig wanted;
    bool reuse = false, tcp = false;
};

TEST_F(BackupPlanning, APushTakesAllWrittenDisksToFilesBesideThem) {
    const auto all = plan();
    EXPECT_FALSE(all.pull);
    ASSERT_EQ(all.parts.size(), 2U);
    EXPECT_EQ(all.parts[0].image, (ImageFile{"/a.qcow2.now", "qcow2"}));
    EXPECT_EQ(all.parts[1].image.path, "/b.raw.now");
    EXPECT_TRUE(all.parts[0].since.empty());
    ASSERT_EQ(all.config.disks.size(), 4U);
    EXPECT_EQ(all.config.disks[2].backup, false);
    EXPECT_EQ(all.config.disks[0].backupmode, "full");
}

TEST_F(BackupPlanning, IncrementalIsPerDiskOrForAll) {
    wanted.incremental = "one";
    auto all = plan();
    EXPECT_EQ(all.parts[1].since, (Names{"three", "one"}));
    say("vda").backupmode = "full";
    EXPECT_TRUE(plan().parts[0].since.empty());
    wanted.disks[0].incremental = "two";
    EXPECT_CODE(plan(), "InvalidXML");
    wanted.disks[0].backupmode.clear();
    EXPECT_EQ(plan().parts[0].since, (Names{"three", "two"}));
    EXPECT_EQ(plan().parts.size(), 1U);
    wanted.disks[0].driver.emplace().type = "raw";
    EXPECT_CODE(plan(), "UnsupportedConfiguration");
    reuse = true;
    EXPECT_EQ(plan().parts[0].image.format, "raw");
    wanted.incremental.clear();
    wanted.disks[0].incremental.clear();
    wanted.disks[0].backupmode = "incremental";
    EXPECT_CODE(plan(), "InvalidXML");
}

TEST_F(BackupPlanning, APullHasExportsAndAServer) {
    wanted.mode = "pull";
    wanted.incremental = "one";
    auto all = plan();
    EXPECT_EQ(all.config.server->socket, "/run/default.sock");
    EXPECT_EQ(all.parts[0].export_name, "vda");
    EXPECT_EQ(all.parts[0].export_bitmap, "backup-vda");
    say("vda").exportname = "x";
    say("vdb").exportname = "x";
    EXPECT_CODE(plan(), "InvalidXML");
    wanted.disks.pop_back();
    wanted.disks[0].driver.emplace().type = "raw";
    EXPECT_CODE(plan(), "UnsupportedConfiguration");
    wanted.disks[0].driver.reset();
    wanted.disks[0].target.emplace().file = "/t";
    EXPECT_CODE(plan(), "InvalidXML");
    wanted.disks.clear();
    wanted.server.emplace().name = "localhost";
    EXPECT_CODE(plan(), "Unsupported") << "tcp for a user";
    tcp = true;
    EXPECT_EQ(plan().config.server->port, "10809");
    wanted.server->tls = true;
    EXPECT_CODE(plan(), "Unsupported");
    wanted.server->tls.reset();
    wanted.server->socket = "relative";
    EXPECT_CODE(plan(), "InvalidXML");
}

TEST_F(BackupPlanning, WhatMakesNoSenseIsRefused) {
    wanted.mode = "sideways";
    EXPECT_CODE(plan(), "InvalidXML");
    wanted.mode = "push";
    wanted.server.emplace();
    EXPECT_CODE(plan(), "InvalidXML");
    wanted.server.reset();
    say("vdz");
    EXPECT_CODE(plan(), "InvalidXML");
    wanted.disks[0].name = "vdc";
    EXPECT_CODE(plan(), "UnsupportedConfiguration");
    wanted.disks[0].backup = false;
    EXPECT_CODE(plan(), "UnsupportedConfiguration") << "nothing is left";
    wanted.disks.clear();
    say("vda").target.emplace().file = "/b.raw";
    EXPECT_CODE(plan(), "InvalidXML") << "over another disk of the domain";
    wanted.disks[0].target->file = "relative";
    EXPECT_CODE(plan(), "InvalidXML");
    wanted.disks[0].target->file = "/fine";
    say("/a.qcow2");
    EXPECT_CODE(plan(), "InvalidXML") << "one disk twice";
    wanted.disks.pop_back();
    wanted.disks[0].exportname = "x";
    EXPECT_CODE(plan(), "InvalidXML");
}

}  // namespace
}  // namespace virtbus
