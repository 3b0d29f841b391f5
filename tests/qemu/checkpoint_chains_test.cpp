// SPDX-License-Identifier: LGPL-2.1-or-later
// Checkpoints of disks whose chains change: what was recorded goes with the bytes, whichever image they go to. Each
// incremental backup is laid on the full one and compared with the disk byte by byte.
#include "tests/qemu/checkpoint_bed.hpp"

namespace virtbus::tests {
namespace {

class Chains : public Checkpointing {
protected:
    /// A full backup, and the checkpoint from which on everything is recorded.
    void begin(const std::string& name = "one") {
        start();
        io("write -P 1 0 1M");
        finish(backup({}, name));
        std::filesystem::rename(root + "/disk.qcow2." + name, root + "/full.qcow2");
    }
    void snapshot(const std::string& name) {
        const SnapshotCreateOptions options{.disk_only = running()};
        finish(get_web()
                   ->snapshots()
                   .create("<domainsnapshot><name>" + name +
                               "</name><disks><disk name='vda' snapshot='external'/></disks></domainsnapshot>",
                           options, caller)
                   .job);
    }
    void remove(const std::string& name) { finish(get_web()->snapshots().remove(name, {}, caller)); }
    void revert(const std::string& name, RevertOptions options = {}) {
        finish(get_web()->snapshots().revert(name, options, caller));
        monitor_.reset();
        if (running()) connect();
    }
    bool running() { return is_active(get_web()->view().state); }
    /// In an orderly way, as a guest that shuts down.
    void quit() {
        monitor_->send("quit");
        ASSERT_TRUE(until([&] { return !running(); }));
        monitor_.reset();
    }
    void start_again() {
        finish(get_web()->start({}, caller));
        connect();
    }
    /// The incremental backup, on the full one, is the disk.
    void expect_exact(const std::string& since = "one") {
        const auto now = disk_now();
        std::filesystem::remove(root + "/inc.qcow2");
        push("inc.qcow2", since);
        shell("qemu-img rebase -u -f qcow2 -F qcow2 -b full.qcow2 inc.qcow2");
        EXPECT_TRUE(bytes("inc.qcow2") == now);
    }
    std::string top() {
        const auto disk = get_web()->view().disks.at(0);
        for (const auto& [field, value] : disk)
            if (field == "source") return std::get<std::string>(value).substr(root.size() + 1);
        return {};
    }
};

TEST_F(Chains, AnOverlayRecordsOn) {
    begin();
    io("write -P 2 512k 1M");
    snapshot("s1");
    io("write -P 3 1M 1M");
    expect_exact();
    checkpoint("two");
    io("write -P 4 2M 64k");
    expect_exact();
    quit();
    start_again();
    expect_exact();
}

TEST_F(Chains, ACommitTakesTheBitmapsDown) {
    begin();
    io("write -P 2 512k 64k");
    snapshot("s1");
    io("write -P 3 1M 64k");
    checkpoint("two");
    io("write -P 4 2M 64k");
    remove("s1");
    EXPECT_EQ(top(), "disk.qcow2");
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"one", "two+"}));
    io("write -P 5 3M 64k");
    expect_exact();
    // The later one has what is later only.
    const auto sized = run(checkpoints().xml("two", {.no_domain = true, .size = true}));
    EXPECT_NE(sized.find("size='131072'"), std::string::npos) << sized;
    quit();
    start_again();
    io("write -P 6 3200k 64k");
    expect_exact();
}

TEST_F(Chains, ACommitBelowTheTopTakesThemDown) {
    begin();
    snapshot("s1");
    io("write -P 2 512k 64k");
    checkpoint("two");
    io("write -P 3 1M 64k");
    snapshot("s2");
    io("write -P 4 2M 64k");
    remove("s1");
    EXPECT_EQ(top(), "disk.s2");
    expect_exact();
    remove("s2");
    EXPECT_EQ(top(), "disk.qcow2");
    io("write -P 5 3M 64k");
    expect_exact();
}

TEST_F(Chains, ACommitOfADomainThatIsOffTakesThemDown) {
    begin();
    io("write -P 2 512k 64k");
    snapshot("s1");
    io("write -P 3 1M 64k");
    checkpoint("two");
    io("write -P 4 2M 64k");
    quit();
    remove("s1");
    EXPECT_EQ(top(), "disk.qcow2");
    start_again();
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"one", "two+"}));
    io("write -P 5 3M 64k");
    expect_exact();
}

TEST_F(Chains, AnOverlayPutOnWhileItIsOffRecordsOn) {
    begin();
    io("write -P 2 512k 64k");
    quit();
    snapshot("s1");
    start_again();
    io("write -P 3 1M 64k");
    expect_exact();
    quit();
    snapshot("s2");
    remove("s1");
    start_again();
    io("write -P 4 2M 64k");
    expect_exact();
    remove("s2");
    io("write -P 5 3M 64k");
    EXPECT_EQ(top(), "disk.qcow2");
    expect_exact();
}

TEST_F(Chains, ABitmapThatStayedBelowIsNotInTheWayOfItsName) {
    begin();
    io("write -P 2 512k 64k");
    checkpoint("two");
    snapshot("s1");
    drop("two");  // what it has in the lower image cannot be removed
    EXPECT_REFUSED(checkpoint("one"), Code::already_exists, "one");
    io("write -P 3 1M 64k");
    expect_exact();
    remove("s1");
    expect_exact();
    checkpoint("two");
    io("write -P 4 2M 64k");
    expect_exact();
    const auto sized = run(checkpoints().xml("two", {.no_domain = true, .size = true}));
    EXPECT_NE(sized.find("size='65536'"), std::string::npos) << sized;
}

TEST_F(Chains, BranchesTakeUpWhatTheirBaseRecorded) {
    begin();
    io("write -P 2 512k 64k");
    snapshot("s1");
    io("write -P 3 1M 64k");
    snapshot("s2");
    io("write -P 4 2M 64k");
    quit();
    revert("s1");
    start_again();
    io("write -P 5 3M 64k");
    expect_exact();
    remove("s1");  // into one branch while it runs, into the other one that nobody uses
    expect_exact();
    io("write -P 6 3200k 64k");
    expect_exact();
    quit();
    revert("s2");
    start_again();
    io("write -P 7 3300k 64k");
    expect_exact();
}

TEST_F(Chains, ARevertKeepsTheCheckpointsThatAreOlder) {
    begin();
    io("write -P 2 512k 64k");
    snapshot("s1");
    io("write -P 3 1M 64k");
    checkpoint("two");
    io("write -P 4 2M 64k");
    EXPECT_REFUSED(revert("s1"), Code::revert_risky, "checkpoints");
    revert("s1", {.force = true});
    EXPECT_EQ(names(), (std::set<std::string>{"one+"}));
    start_again();
    io("write -P 5 3M 64k");
    expect_exact();
}

// ---- the ends of a guest

TEST_F(Chains, AStopClosesTheBitmaps) {
    begin();
    io("write -P 2 512k 64k");
    finish(get_web()->stop({}, caller));
    EXPECT_EQ(get_web()->view().state_reason, "destroyed");
    start_again();  // and a daemon that knows of none of its own doing
    io("write -P 3 1M 64k");
    monitor_.reset();
    boot_daemon();
    finish(get_web()->stop({}, caller));
    start_again();
    expect_exact();
    checkpoint("two");
    io("write -P 4 2M 64k");
    finish(get_web()->stop({.graceful = true}, caller));
    start_again();
    expect_exact();
}

TEST_F(Chains, AGuestThatEndsByItselfKeepsThem) {
    more_ = "<on_poweroff>restart</on_poweroff><on_reboot>destroy</on_reboot>";
    begin();
    io("write -P 2 512k 64k");
    ask("system_reset");
    ASSERT_TRUE(until([&] { return !running(); }));
    EXPECT_EQ(get_web()->view().state_reason, "shutdown");
    EXPECT_FALSE(audience.heard("web shutoff crashed"));
    start_again();
    expect_exact();
}

TEST_F(Chains, AHaltAfterASnapshotKeepsThem) {
    begin();
    io("write -P 2 512k 64k");
    finish(get_web()
               ->snapshots()
               .create("<domainsnapshot><name>s1</name></domainsnapshot>", {.halt = true, .disk_only = true}, caller)
               .job);
    ASSERT_FALSE(running());
    start_again();
    io("write -P 3 1M 64k");
    expect_exact();
}

TEST_F(Chains, AKilledQemuIsFoundOut) {
    begin();
    io("write -P 2 512k 64k");
    const auto one = run(checkpoints().xml("one", {.secure = true}));
    quit();
    start_again();
    io("write -P 2 512k 64k");
    ASSERT_EQ(::kill(static_cast<pid_t>(std::stol(read(root + "/pid"))), SIGKILL), 0);
    ASSERT_TRUE(until([&] { return !running(); }));
    start_again();
    EXPECT_REFUSED(push("inc.qcow2", "one"), Code::checkpoint_inconsistent, "killed");
    EXPECT_FALSE(exists(root + "/inc.qcow2"));
    EXPECT_REFUSED(checkpoint("two"), Code::checkpoint_inconsistent, "full backup");
    EXPECT_REFUSED(finish(checkpoints().create(one, {.redefine = true, .validate_bitmaps = true}, caller).job),
                   Code::checkpoint_inconsistent, "killed");
    drop("one");
    EXPECT_TRUE(bitmaps().empty());
    std::filesystem::remove(root + "/full.qcow2");
    finish(backup({}, "one"));
    std::filesystem::rename(root + "/disk.qcow2.one", root + "/full.qcow2");
    io("write -P 3 1M 64k");
    expect_exact();
}

}  // namespace
}  // namespace virtbus::tests
