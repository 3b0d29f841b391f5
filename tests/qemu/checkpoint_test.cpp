// SPDX-License-Identifier: LGPL-2.1-or-later
// Checkpoints and backups as the service does them, with a real QEMU below: what is restored is compared with the disk
// byte by byte, and records with bitmaps, also after the daemon has died half way.
#include "tests/qemu/checkpoint_bed.hpp"

namespace virtbus::tests {
namespace {

TEST_F(Checkpointing, AnIncrementalRestoreIsTheDisk) {
    start();
    io("write -P 1 0 1M");
    finish(backup({}, "one"));  // to a file beside the disk
    EXPECT_EQ(names(), (std::set<std::string>{"one+"}));
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"one+"}));
    io("write -P 2 512k 1M");
    io("write -z 64k 64k");
    const auto first = disk_now();
    push("inc1.qcow2", "one", "two");
    io("write -P 3 2M 100k");
    const auto second = disk_now();
    push("inc2.qcow2", "two");
    push("both.qcow2", "one");
    io("write -P 4 0 4M");
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"one", "two+"}));
    EXPECT_EQ(names(), (std::set<std::string>{"one", "two+"}));
    EXPECT_TRUE(audience.heard("checkpoint-added two"));
    EXPECT_TRUE(audience.heard("checkpoint-changed one"));
    shell(
        "cp disk.qcow2.one full && qemu-img rebase -u -f qcow2 -F qcow2 -b disk.qcow2.one inc1.qcow2 && "
        "qemu-img rebase -u -f qcow2 -F qcow2 -b inc1.qcow2 inc2.qcow2 && "
        "qemu-img rebase -u -f qcow2 -F qcow2 -b full both.qcow2");
    EXPECT_TRUE(bytes("inc1.qcow2") == first);
    EXPECT_TRUE(bytes("inc2.qcow2") == second);
    EXPECT_TRUE(bytes("both.qcow2") == second);
}

TEST_F(Checkpointing, DeletingOneInTheMiddleLosesNothing) {
    start();
    finish(backup({}, "one"));
    io("write -P 1 0 64k");
    checkpoint("two");
    io("write -P 2 1M 64k");
    checkpoint("three");
    io("write -P 3 2M 64k");
    const auto sized = run(checkpoints().xml("one", {.no_domain = true, .size = true}));
    EXPECT_NE(sized.find("size='196608'"), std::string::npos) << sized;
    EXPECT_EQ(sized.find("<domain>"), std::string::npos);
    drop("two");
    EXPECT_EQ(names(), (std::set<std::string>{"one", "three+"}));
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"one", "three+"}));
    EXPECT_EQ(checkpoints().get("three").parent, "one");
    drop("three");
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"one+"})) << "the one before goes on recording";
    io("write -P 4 3M 64k");
    const auto now = disk_now();
    push("inc.qcow2", "one");
    shell("qemu-img rebase -u -f qcow2 -F qcow2 -b disk.qcow2.one inc.qcow2");
    EXPECT_TRUE(bytes("inc.qcow2") == now);
    EXPECT_REFUSED(push("x.qcow2", "two"), Code::no_such_checkpoint, "two");
    checkpoint("four");
    drop("one", {.metadata_only = true});
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"one", "four+"})) << "only the record is forgotten";
    drop("four", {.children = true});
    EXPECT_TRUE(names().empty());
}

TEST_F(Checkpointing, APullLastsUntilItIsEnded) {
    start();
    io("write -P 1 0 1M");
    checkpoint("one");
    io("write -P 2 2M 128k");
    const auto moment = disk_now();
    EXPECT_REFUSED(run(get_web()->backups().end(caller)), Code::invalid_state, "no pull backup");
    const auto job = backup("<incremental>one</incremental>", "two", "pull");
    serving(job);
    const auto socket = root + "/run/backup/" + uuid_of("web") + ".sock";
    const auto pulled = [&] {
        shell("qemu-img convert -f raw -O raw 'nbd+unix:///vda?socket=" + socket + "' pulled.raw");
        return read(root + "/pulled.raw");
    };
    EXPECT_TRUE(pulled() == moment);
    io("write -P 9 0 4M");
    EXPECT_TRUE(pulled() == moment);
    const auto xml = get_web()->backups().xml();
    EXPECT_NE(xml.find("exportbitmap='backup-vda'"), std::string::npos) << xml;
    EXPECT_NE(xml.find(socket), std::string::npos) << xml;
    EXPECT_REFUSED(finish(backup({})), Code::busy, "one at a time");
    drop("one");  // the moment does not need it any more
    run(get_web()->backups().end(caller));
    EXPECT_EQ(job->view().state, JobState::succeeded);
    EXPECT_FALSE(exists(socket));
    EXPECT_FALSE(exists(root + "/disk.qcow2.two")) << "the scratch image stays";
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"two+"}));
    EXPECT_REFUSED((void)get_web()->backups().xml(), Code::invalid_state, "no backup");
}

TEST_F(Checkpointing, APullEndsWithItsJobAndWithTheGuest) {
    start();
    auto job = backup({}, {}, "pull");
    serving(job);
    job->cancel();
    EXPECT_REFUSED(finish(job), Code::cancelled, "");
    job = backup({}, {}, "pull");
    serving(job);
    finish(get_web()->stop({}, caller));
    EXPECT_REFUSED(finish(job), Code::hypervisor_failed, "destroyed");
    EXPECT_TRUE(std::filesystem::is_empty(root + "/run/backup"));
    EXPECT_REFUSED(finish(backup({})), Code::invalid_state, "shutoff");
    EXPECT_REFUSED(checkpoint("late"), Code::invalid_state, "shutoff");
}

TEST_F(Checkpointing, WhatIsRefusedLeavesNoTrace) {
    start();
    write(root + "/taken", "precious\n");
    EXPECT_REFUSED(push("taken"), Code::already_exists, "taken");
    EXPECT_EQ(read(root + "/taken"), "precious\n");
    EXPECT_REFUSED(push("new", {}, "a/b"), Code::invalid_xml, "");
    EXPECT_REFUSED(push("new", "none", "one"), Code::no_such_checkpoint, "none");
    EXPECT_FALSE(exists(root + "/new"));
    EXPECT_TRUE(names().empty());
    EXPECT_TRUE(bitmaps().empty());
    checkpoint("one");
    EXPECT_REFUSED(checkpoint("one"), Code::already_exists, "one");
    EXPECT_REFUSED(push("new", {}, "one"), Code::already_exists, "one");
    EXPECT_FALSE(exists(root + "/new"));
    EXPECT_REFUSED(checkpoint("two", "<disks><disk name='vdz'/></disks>"), Code::invalid_xml, "vdz");
    EXPECT_REFUSED(checkpoint("two", "<disks><disk name='vda' checkpoint='no'/></disks>"),
                   Code::unsupported_configuration, "qcow2");
    EXPECT_REFUSED((void)checkpoints().remove("one", {.children = true, .children_only = true}, caller),
                   Code::conflicting_options, "children");
}

TEST_F(Checkpointing, RedefinedOnesServeAsBefore) {
    start();
    finish(backup({}, "one"));
    io("write -P 1 0 64k");
    checkpoint("two");
    io("write -P 2 1M 64k");
    const auto one = run(checkpoints().xml("one", {.secure = true})),
               two = run(checkpoints().xml("two", {.secure = true}));
    drop("one", {.children = true, .metadata_only = true});
    EXPECT_TRUE(names().empty());
    const auto redefine = [&](const std::string& text, bool validate = false) {
        finish(checkpoints().create(text, {.redefine = true, .validate_bitmaps = validate}, caller).job);
    };
    EXPECT_REFUSED(redefine(two), Code::invalid_xml, "one");
    auto bare = one;
    bare.erase(bare.find("<domain "), bare.find("</domain>") + 9 - bare.find("<domain "));
    EXPECT_REFUSED(redefine(bare), Code::invalid_xml, "<domain>");
    redefine(one, true);
    redefine(two, true);
    EXPECT_EQ(names(), (std::set<std::string>{"one", "two+"}));
    const auto now = disk_now();
    push("inc.qcow2", "one");
    shell("qemu-img rebase -u -f qcow2 -F qcow2 -b disk.qcow2.one inc.qcow2");
    EXPECT_TRUE(bytes("inc.qcow2") == now);
    auto wrong = two;
    for (std::size_t at = 0; (at = wrong.find("bitmap='two'", at)) != std::string::npos; ++at)
        wrong.replace(at, 12, "bitmap='off'");
    EXPECT_REFUSED(redefine(wrong, true), Code::checkpoint_inconsistent, "off");
    redefine(wrong);
    EXPECT_REFUSED(push("x.qcow2", "one"), Code::checkpoint_inconsistent, "two");
    EXPECT_REFUSED(checkpoint("three"), Code::checkpoint_inconsistent, "two");
    EXPECT_FALSE(checkpoints().find("three"));
}

TEST_F(Checkpointing, ADaemonThatDiesLeavesBitmapsAndRecordsAsOne) {
    start();
    checkpoint("base");
    for (const bool removing : {false, true})
        for (int steps = 0;; ++steps) {
            files.steps_left = -1;
            if (!removing && checkpoints().find("fresh")) drop("fresh");
            if (removing && !checkpoints().find("fresh")) checkpoint("fresh");
            io("write -P 5 0 64k");
            files.steps_left = steps;
            bool finished = false;
            try {
                removing ? drop("fresh") : checkpoint("fresh");
                finished = true;
            } catch (const Error&) {
            }
            room.reset();
            files.steps_left = -1;
            boot_daemon();
            connect();
            EXPECT_EQ(names(), bitmaps()) << (removing ? "removing" : "making") << " died after " << steps;
            if (finished) break;
            ASSERT_LT(steps, 20);
        }
    io("write -P 6 1M 64k");
    push("inc.qcow2", "base");
}

}  // namespace
}  // namespace virtbus::tests
