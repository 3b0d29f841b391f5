// SPDX-License-Identifier: LGPL-2.1-or-later
// Snapshots through the whole service with real images and a real QEMU: after each verb the disks hold, byte for byte,
// what they must.
#include "tests/qemu/snapshot_bed.hpp"

namespace virtbus::tests {
namespace {

// ---- inside the images ---------------------------------------------------------------------------------------------

TEST_F(QemuSnapshots, InsideAnInactiveDomainsImages) {
    define_web();
    take("one");
    EXPECT_EQ(tags(image("a")), std::vector<std::string>{"one"});
    EXPECT_EQ(snapshot("one").state, "shutoff");
    EXPECT_TRUE(snapshot("one").current);
    EXPECT_EQ(web()->view().current_snapshot, "one");
    put(image("a"), 0, 2);
    take("two");
    EXPECT_EQ(snapshot("two").parent, "one");
    EXPECT_EQ(snapshot("one").children, std::vector<std::string>{"two"});
    put(image("a"), 0, 3);
    revert("one");
    EXPECT_EQ(seen(image("a"))[0], 1u);
    EXPECT_EQ(web()->view().current_snapshot, "one");
    EXPECT_EQ(tags(image("a")), (std::vector<std::string>{"one", "two"})) << "no safety snapshot stays";
    revert("two");
    EXPECT_EQ(seen(image("a"))[0], 2u);
    remove("one");
    EXPECT_EQ(tags(image("a")), std::vector<std::string>{"two"});
    EXPECT_EQ(snapshot("two").parent, "");
    remove("two", {.metadata_only = true});
    EXPECT_EQ(tags(image("a")), std::vector<std::string>{"two"}) << "only the record goes";
    EXPECT_TRUE(names().empty());
}

TEST_F(QemuSnapshots, InsideARunningDomainsImagesWithItsMemory) {
    define_web();
    start(false);
    take("one");
    EXPECT_EQ(snapshot("one").state, "running");
    EXPECT_EQ(web()->view().state, State::running);
    const auto process = web()->view().process_id;
    revert("one");
    EXPECT_EQ(web()->view().process_id, process) << "the same machine takes the state up";
    EXPECT_EQ(web()->view().state, State::running);
    stop();
    EXPECT_EQ(tags(image("a")), std::vector<std::string>{"one"});
    put(image("a"), 0, 9);
    revert("one", {.paused = true});
    EXPECT_EQ(web()->view().state, State::paused);
    stop();
    EXPECT_EQ(seen(image("a"))[0], 1u);
    start();
    remove("one");
    stop();
    EXPECT_TRUE(tags(image("a")).empty());
}

// ---- outside -------------------------------------------------------------------------------------------------------

/// base: 1 - s1 - overlay: 2 - s2 - overlay: 3 - s3 - overlay: 4, each in a cell of its own, on disk "a".
class Chain : public QemuSnapshots, public ::testing::WithParamInterface<bool> {
protected:
    Chain() {
        define_web();
        for (const auto* name : {"s1", "s2", "s3"}) {
            take_outside(name);
            put(top("vda"), names().size(), static_cast<unsigned>(names().size()) + 1);
        }
        if (GetParam()) start();
    }
    void check() {
        if (GetParam()) stop();
        EXPECT_EQ(seen(top("vda")), (Cells{1, 2, 3, 4}));
        EXPECT_EQ(seen(top("vdb"))[0], 1u);
        start();  // QEMU finds the chain as it is
        stop();
    }
    /// What the guest had at that moment.
    void check_moment(const std::string& name, const Cells& expected) {
        revert(name);
        EXPECT_EQ(seen(top("vda")), expected) << name;
    }
};

TEST_P(Chain, LosesItsBase) {
    remove("s1");
    check();
    EXPECT_EQ(names(), (std::vector<std::string>{"s2", "s3"}));
    EXPECT_FALSE(exists(root + "/a.s1"));
    check_moment("s3", {1, 2, 3, 0});
    check_moment("s2", {1, 2, 0, 0});
}

TEST_P(Chain, LosesItsMiddle) {
    remove("s2");
    check();
    EXPECT_FALSE(exists(root + "/a.s2"));
    check_moment("s1", {1, 0, 0, 0});
    check_moment("s3", {1, 2, 3, 0});
}

TEST_P(Chain, LosesItsCurrentLeaf) {
    remove("s3");
    EXPECT_EQ(web()->view().current_snapshot, "s2");
    check();
    EXPECT_EQ(top("vda"), root + "/a.s2");
    EXPECT_FALSE(exists(root + "/a.s3"));
    check_moment("s2", {1, 2, 0, 0});
}

TEST_P(Chain, LosesAllFromTheLeafOn) {
    remove("s1", {.children = true});
    check();
    EXPECT_TRUE(names().empty());
    EXPECT_EQ(top("vda"), image("a"));
}

TEST_P(Chain, LosesDescendantsOnly) {
    remove("s1", {.children_only = true});
    check();
    EXPECT_EQ(names(), std::vector<std::string>{"s1"});
    check_moment("s1", {1, 0, 0, 0});
}

TEST_P(Chain, LosesWhatABranchLiesOn) {
    if (GetParam()) stop();
    revert("s2");
    put(top("vda"), 2, 7);
    take_outside("branch");
    put(top("vda"), 3, 8);
    if (GetParam()) start();
    remove("s1");
    if (GetParam()) stop();
    EXPECT_EQ(seen(top("vda")), (Cells{1, 2, 7, 8}));
    check_moment("s3", {1, 2, 3, 0});
    check_moment("branch", {1, 2, 7, 0});
    check_moment("s2", {1, 2, 0, 0});
}

INSTANTIATE_TEST_SUITE_P(OfASnapshotTree, Chain, ::testing::Bool(),
                         [](const auto& info) { return std::string{info.param ? "Running" : "Inactive"}; });

TEST_F(QemuSnapshots, RevertOutsideMakesAFreshOverlayAndBranchesStay) {
    define_web();
    take_outside("s1");
    put(top("vda"), 1, 2);
    take_outside("s2");
    put(top("vda"), 2, 3);
    const auto given_up = top("vda");
    revert("s1");
    EXPECT_FALSE(exists(given_up)) << "what was written since s2 is given up";
    EXPECT_EQ(seen(top("vda")), (Cells{1, 0, 0, 0}));
    EXPECT_EQ(web()->view().current_snapshot, "s1");
    put(top("vda"), 3, 7);
    take_outside("branch");
    put(top("vda"), 2, 8);
    EXPECT_EQ(snapshot("s1").children, (std::vector<std::string>{"s2", "branch"}));
    revert("s2");
    EXPECT_EQ(seen(top("vda")), (Cells{1, 2, 0, 0}));
    revert("branch");
    EXPECT_EQ(seen(top("vda")), (Cells{1, 0, 0, 7}));
    // s1's frozen image has two overlays: each takes up what it needs, and the image, which is ours no more than the
    // user's, stays.
    remove("s1");
    EXPECT_TRUE(exists(image("a")));
    EXPECT_EQ(seen(top("vda")), (Cells{1, 0, 0, 7}));
    revert("s2");
    EXPECT_EQ(seen(top("vda")), (Cells{1, 2, 0, 0}));
}

TEST_F(QemuSnapshots, WithMemoryInAFile) {
    define_web();
    start(false);
    take("mem", {}, "<memory snapshot='external' file='" + root + "/mem'/>");
    EXPECT_EQ(web()->view().state, State::running);
    EXPECT_EQ(snapshot("mem").kind, SnapshotKind::external);
    EXPECT_EQ(top("vda"), root + "/a.mem");
    stop();
    put(top("vda"), 1, 5);
    revert("mem");
    EXPECT_EQ(web()->view().state, State::running);
    stop();
    EXPECT_EQ(seen(top("vda")), (Cells{1, 0, 0, 0}));
    revert("mem", {.paused = true});
    EXPECT_EQ(web()->view().state, State::paused);
    EXPECT_TRUE(exists(root + "/mem"));
    stop();
    remove("mem");
    EXPECT_FALSE(exists(root + "/mem")) << "it was made with the snapshot";
}

TEST_F(QemuSnapshots, MemoryThatDidNotChangeIsNotWrittenTwice) {
    define_web();
    start();
    take("one", {}, "<memory snapshot='external' file='" + root + "/one'/>");
    EXPECT_REFUSED(take("two", {}, "<memory snapshot='external' file='" + root + "/two'/>"), Code::invalid_state,
                   "resume it first");
    EXPECT_EQ(web()->view().state, State::paused);
    EXPECT_FALSE(exists(root + "/two"));
    EXPECT_EQ(names(), std::vector<std::string>{"one"});
}

TEST_F(QemuSnapshots, AnOverlayThatIsThereIsNotTouched) {
    define_web();
    write(root + "/a.s1", "precious");
    EXPECT_REFUSED(take_outside("s1"), Code::already_exists, "a.s1");
    EXPECT_EQ(read(root + "/a.s1"), "precious");
    EXPECT_FALSE(exists(root + "/b.s1"));
    start();
    EXPECT_REFUSED(take_outside("s1"), Code::already_exists, "a.s1");
    EXPECT_EQ(read(root + "/a.s1"), "precious");
    EXPECT_TRUE(names().empty());
}

TEST_F(QemuSnapshots, AnOverlayNobodyRecordedKeepsASnapshot) {
    define_web();
    take_outside("s1");
    ASSERT_EQ(shell("qemu-img create -f qcow2 -F qcow2 -b " + image("a") + " " + root + "/stranger.qcow2"), 0);
    EXPECT_REFUSED(remove("s1"), Code::invalid_state, "stranger.qcow2");
    EXPECT_EQ(names(), std::vector<std::string>{"s1"});
    remove("s1", {.metadata_only = true});
}

TEST_F(QemuSnapshots, WhatAnotherDomainsDiskLiesOnIsLeftToIt) {
    define_web();
    take("inside");
    std::filesystem::create_directories(root + "/elsewhere/deep");
    const auto clone = root + "/elsewhere/deep/clone.qcow2", middle = root + "/elsewhere/middle.qcow2";
    std::filesystem::create_symlink(image("a"), root + "/elsewhere/link");
    ASSERT_EQ(shell("qemu-img create -f qcow2 -F qcow2 -b " + root + "/elsewhere/link " + middle), 0);
    ASSERT_EQ(shell("qemu-img create -f qcow2 -F qcow2 -b " + middle + " " + clone), 0);
    const auto other = define(
        "<domain type='qemu'><name>other</name><memory unit='MiB'>64</memory><os><type "
        "arch='x86_64' machine='q35'>hvm</type></os><devices><disk type='file'><driver "
        "name='qemu' type='qcow2'/><source file='" +
        clone + "'/><target dev='vda' bus='virtio'/></disk></devices></domain>");
    EXPECT_REFUSED(revert("inside"), Code::invalid_state, "'other'");
    remove("inside", {.metadata_only = true});
    for (const auto* disk : {"a", "b"}) ASSERT_EQ(shell("qemu-img snapshot -d inside " + image(disk)), 0);
    take_outside("outside");
    EXPECT_REFUSED(remove("outside"), Code::invalid_state, "'other'");
    undefine("other");
    remove("outside");
    EXPECT_EQ(top("vda"), image("a"));
}

TEST_F(QemuSnapshots, AnImageWithAnOverlayIsNotRevertedUnderIt) {
    define_web();
    take("inside");
    take_outside("outside");
    EXPECT_REFUSED(revert("inside"), Code::invalid_state, "a.outside");
}

TEST_F(QemuSnapshots, WhatIsInsideAnOverlayKeepsItFromBeingMerged) {
    define_web();
    take_outside("outside");
    take("inside");
    put(top("vda"), 0, 2);
    EXPECT_REFUSED(remove("outside"), Code::invalid_state, "a.outside");
    remove("inside", {.metadata_only = true});
    EXPECT_REFUSED(remove("outside"), Code::invalid_state, "has snapshots inside");
    start();
    EXPECT_REFUSED(remove("outside"), Code::invalid_state, "has snapshots inside");
    stop();
    for (const auto* disk : {"vda", "vdb"}) ASSERT_EQ(shell("qemu-img snapshot -d inside " + top(disk)), 0);
    remove("outside");
    EXPECT_EQ(seen(image("a"))[0], 2u);
}

TEST_F(QemuSnapshots, WhatOneSnapshotHasFrozenIsNotRevertedForAnother) {
    define_web();
    take_outside("s1");
    take("inside");
    put(top("vda"), 1, 2);
    take_outside("s2");
    revert("s1");
    EXPECT_REFUSED(revert("inside"), Code::invalid_state, "'s2'");
    revert("s2");
    EXPECT_EQ(seen(top("vda")), (Cells{1, 2, 0, 0}));
    revert("s1");
    remove("s2");
    revert("inside");
    EXPECT_EQ(seen(top("vda")), (Cells{1, 0, 0, 0}));
}

TEST_F(QemuSnapshots, AnImageGoesWithTheLastThatIsInsideIt) {
    define_web();
    take_outside("s1");
    const auto holder = top("vda");
    take("inside");
    take_outside("s2");
    revert("s1");
    remove("s2");
    EXPECT_TRUE(exists(holder));
    remove("inside");
    EXPECT_FALSE(exists(holder));
    remove("s1");
    EXPECT_EQ(seen(top("vda")), (Cells{1, 0, 0, 0}));
}

TEST_F(QemuSnapshots, AnImageStaysForWhatIsInsideIt) {
    define_web();
    take_outside("s1");
    take("inside");
    const auto holder = top("vda");
    remove("inside", {.metadata_only = true});
    revert("s1");
    EXPECT_EQ(tags(holder), std::vector<std::string>{"inside"}) << "it was given up, not removed";
}

TEST_F(QemuSnapshots, ARunningMachineOnOtherImagesIsReplaced) {
    define_web();
    take_outside("s1");
    put(top("vda"), 1, 2);
    start(false);
    take("inside");
    const auto holder = top("vda");
    stop();
    revert("s1");
    const auto given_up = top("vda");
    start();
    const auto process = web()->view().process_id;
    revert("inside");
    EXPECT_NE(web()->view().process_id, process);
    EXPECT_EQ(web()->view().state, State::running);
    EXPECT_EQ(top("vda"), holder);
    EXPECT_FALSE(exists(given_up)) << "nobody can go back to it";
    stop();
    EXPECT_EQ(seen(top("vda")), (Cells{1, 2, 0, 0}));
    remove("inside");
    remove("s1");
    EXPECT_EQ(seen(top("vda")), (Cells{1, 2, 0, 0}));
}

TEST_F(QemuSnapshots, WhatARunningMachineReadsIsNotChangedUnderIt) {
    define_web();
    take("inside");
    take_outside("outside");
    start();
    EXPECT_REFUSED(remove("inside"), Code::invalid_state, "Shut it down first");
    remove("inside", {.metadata_only = true});
    EXPECT_EQ(tags(image("a")), std::vector<std::string>{"inside"});
}

TEST_F(QemuSnapshots, NoMetadataLeavesTheOverlaysAlone) {
    define_web();
    take("s1", {.no_metadata = true, .disk_only = true});
    EXPECT_TRUE(names().empty());
    EXPECT_EQ(top("vda"), root + "/a.s1");
    start();
    EXPECT_EQ(web()->view().state, State::paused);
}

TEST_F(QemuSnapshots, HaltEndsTheDomain) {
    define_web();
    start();
    take("s1", {.halt = true});
    EXPECT_EQ(web()->view().state, State::shutoff);
    EXPECT_EQ(names(), std::vector<std::string>{"s1"});
}

/// The frozen image is on a disk that has no room for what lies on it.
TEST_F(QemuSnapshots, AMergeWithoutRoomLeavesEverythingAsItWas) {
    const auto small = root + "/small";
    std::filesystem::create_directory(small);
    if (shell("mount -t tmpfs -o size=4M virtbus-test " + small) != 0) GTEST_SKIP() << "mounting takes root";
    const struct Unmount {
        std::string path;
        ~Unmount() { shell("umount -l " + path); }
    } unmount{small};
    ASSERT_EQ(shell("cp " + image("a") + " " + small + "/a.qcow2 && qemu-img resize " + small + "/a.qcow2 8M"), 0);
    std::filesystem::remove(image("a"));
    std::filesystem::create_symlink(small + "/a.qcow2", image("a"));
    define_web();
    take("s1", {.disk_only = true}, "<disks><disk name='vda'><source file='" + root + "/over.qcow2'/></disk></disks>");
    ASSERT_EQ(shell("qemu-io -f qcow2 -c 'write -P 7 0 6M' " + root + "/over.qcow2"), 0);
    for (const bool runs : {true, false}) {
        SCOPED_TRACE(runs);
        if (runs) start();
        EXPECT_REFUSED(remove("s1"), Code::no_space, "");
        EXPECT_EQ(names(), std::vector<std::string>{"s1"});
        if (runs) {
            EXPECT_EQ(web()->view().state, State::paused);
            stop();
        }
        EXPECT_EQ(top("vda"), root + "/over.qcow2");
        EXPECT_EQ(seen(top("vda")), (Cells{7, 7, 7, 7}));
    }
    ASSERT_EQ(shell("mount -o remount,size=32M " + small), 0);
    remove("s1");
    EXPECT_EQ(top("vda"), image("a"));
    EXPECT_EQ(seen(top("vda")), (Cells{7, 7, 7, 7}));
}

}  // namespace
}  // namespace virtbus::tests
