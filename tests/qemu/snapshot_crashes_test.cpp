// SPDX-License-Identifier: LGPL-2.1-or-later
// A daemon that dies at each lasting change of a verb on snapshots: the next one brings it to an end, and no disk has
// lost anything.
#include "tests/qemu/snapshot_bed.hpp"

namespace virtbus::tests {
namespace {

/// Does the verb with the daemon dying at its n-th lasting change, for every n; after each a new daemon takes over.
class Crashes : public QemuSnapshots {
protected:
    template <class Prepare, class Verb, class Check>
    void at_every_step(Prepare prepare, Verb verb, Check check) {
        for (int step = 0;; ++step) {
            SCOPED_TRACE("dying at step " + std::to_string(step));
            ASSERT_LT(step, 60);
            prepare();
            files.steps_left = step;
            files.steps = 0;
            bool done = true;
            try {
                verb();
            } catch (const std::exception&) {
                done = false;
            }
            files.steps_left = -1;
            boot();
            finish(web()->set_autostart(false, caller));  // comes after what the lane is held for
            check(done);
            if (::testing::Test::HasFailure() || done) break;
            clear();
        }
    }
    void clear() {
        if (is_active(web()->view().state)) stop();
        undefine("web", {.snapshots_metadata = true});
        std::filesystem::remove_all(root + "/a.s1");
        std::filesystem::remove_all(root + "/b.s1");
        for (const auto* disk : {"a", "b"}) {
            ASSERT_TRUE_(shell("qemu-img create -f qcow2 " + image(disk) + " 1M") == 0);
            put(image(disk), 0, 1);
        }
    }
};

TEST_F(Crashes, CreatingInsideAnInactiveDomain) {
    at_every_step([&] { define_web(); }, [&] { take("s1"); },
                  [&](bool done) {
                      EXPECT_EQ(names().size(), tags(image("a")).size());
                      EXPECT_EQ(names().size(), tags(image("b")).size());
                      EXPECT_TRUE(!done || names().size() == 1);
                  });
}

TEST_F(Crashes, CreatingOutsideAnInactiveDomain) {
    at_every_step([&] { define_web(); }, [&] { take_outside("s1"); },
                  [&](bool) {
                      EXPECT_EQ(top("vda"), names().empty() ? image("a") : root + "/a.s1");
                      EXPECT_EQ(exists(root + "/a.s1"), !names().empty());
                      EXPECT_EQ(seen(top("vda"))[0], 1u);
                  });
}

TEST_F(Crashes, CreatingOutsideARunningDomain) {
    at_every_step([&] { define_web(), start(); }, [&] { take_outside("s1"); },
                  [&](bool) {
                      EXPECT_EQ(top("vda"), names().empty() ? image("a") : root + "/a.s1");
                      EXPECT_EQ(web()->view().state, State::paused);
                      stop();
                      EXPECT_EQ(top("vda"), names().empty() ? image("a") : root + "/a.s1");
                      EXPECT_EQ(exists(root + "/a.s1"), !names().empty());
                  });
}

TEST_F(Crashes, DeletingOutside) {
    at_every_step(
        [&] {
            define_web();
            take_outside("s1");
            put(top("vda"), 1, 2);
        },
        [&] { remove("s1"); },
        [&](bool) {
            EXPECT_EQ(top("vda"), names().empty() ? image("a") : root + "/a.s1")
                << "it is finished, or was never begun";
            EXPECT_EQ(exists(root + "/a.s1"), !names().empty());
            EXPECT_EQ(seen(top("vda")), (Cells{1, 2, 0, 0}));
        });
}

TEST_F(Crashes, DeletingOutsideARunningDomain) {
    at_every_step(
        [&] {
            define_web();
            take_outside("s1");
            put(top("vda"), 1, 2);
            start();
        },
        [&] { remove("s1"); },
        [&](bool) {
            EXPECT_EQ(web()->view().state, State::paused);
            const auto live = top("vda");
            stop();
            EXPECT_EQ(top("vda"), live) << "what is stored goes on where the guest wrote";
            EXPECT_EQ(top("vda"), names().empty() ? image("a") : root + "/a.s1");
            EXPECT_EQ(exists(root + "/a.s1"), !names().empty());
            EXPECT_EQ(seen(top("vda")), (Cells{1, 2, 0, 0}));
        });
}

TEST_F(Crashes, RevertingOutside) {
    at_every_step(
        [&] {
            define_web();
            take_outside("s1");
            put(top("vda"), 1, 2);
        },
        [&] { revert("s1"); },
        [&](bool done) {
            const auto reverted = top("vda") != root + "/a.s1";
            EXPECT_EQ(seen(top("vda")), reverted ? (Cells{1, 0, 0, 0}) : (Cells{1, 2, 0, 0}));
            EXPECT_EQ(exists(root + "/a.s1"), !reverted) << "what is given up goes, what is needed stays";
            EXPECT_EQ(exists(root + "/a.s1.1"), reverted);
            if (done) EXPECT_TRUE(reverted);
            std::filesystem::remove(root + "/a.s1.1");
            std::filesystem::remove(root + "/b.s1.1");
        });
}

TEST_F(Crashes, RevertingInside) {
    at_every_step(
        [&] {
            define_web();
            take("s1");
            put(image("a"), 0, 9);
        },
        [&] { revert("s1"); },
        [&](bool done) {
            const auto now = seen(image("a"))[0];
            EXPECT_TRUE(now == 1 || now == 9) << now;
            if (done) EXPECT_EQ(now, 1u);
            EXPECT_EQ(tags(image("a")), std::vector<std::string>{"s1"});
        });
}

/// A running machine whose disks have moved on since the snapshot of it and its memory.
class CrashesOfRunning : public Crashes {
protected:
    void prepare() {
        define_web();
        start();
        take("s1");
        stop();
        put(image("a"), 0, 9);
        start();
    }
    void check(bool done) {
        if (done) EXPECT_EQ(web()->view().state, State::paused);
        if (is_active(web()->view().state)) stop();
        const auto now = seen(image("a"))[0];
        EXPECT_TRUE(now == 1 || now == 9) << now;
        if (done) EXPECT_EQ(now, 1u);
        for (const auto* disk : {"a", "b"}) EXPECT_EQ(tags(image(disk)), std::vector<std::string>{"s1"}) << disk;
        EXPECT_EQ(names(), std::vector<std::string>{"s1"});
    }
};

TEST_F(CrashesOfRunning, RevertingItsProcess) {
    at_every_step([&] { prepare(); }, [&] { revert("s1"); }, [&](bool done) { check(done); });
}

TEST_F(CrashesOfRunning, RevertingToAnotherProcess) {
    at_every_step([&] { prepare(); }, [&] { revert("s1", {.reset_nvram = true}); }, [&](bool done) { check(done); });
}

TEST_F(CrashesOfRunning, RevertingOutside) {
    at_every_step(
        [&] {
            define_web();
            take_outside("s1");
            put(top("vda"), 1, 2);
            start();
        },
        [&] { revert("s1"); },
        [&](bool done) {
            if (done) EXPECT_EQ(web()->view().state, State::shutoff);
            if (is_active(web()->view().state)) stop();
            const auto reverted = top("vda") != root + "/a.s1";
            EXPECT_EQ(seen(top("vda")), reverted ? (Cells{1, 0, 0, 0}) : (Cells{1, 2, 0, 0}));
            EXPECT_EQ(exists(root + "/a.s1"), !reverted) << "what is given up goes, what is needed stays";
            EXPECT_EQ(exists(root + "/a.s1.1"), reverted);
            if (done) EXPECT_TRUE(reverted);
            std::filesystem::remove(root + "/a.s1.1");
            std::filesystem::remove(root + "/b.s1.1");
        });
}

}  // namespace
}  // namespace virtbus::tests
