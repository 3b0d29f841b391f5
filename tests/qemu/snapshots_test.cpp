// SPDX-License-Identifier: LGPL-2.1-or-later
// Snapshots through the whole service with real images and a real QEMU: after each verb the disks hold, byte for byte,
// what they must.
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "plain_units.hpp"
#include "qemu/driver.hpp"
#include "tests/service/world.hpp"

namespace virtbus::tests {
namespace {

int shell(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str());  // NOLINT: the paths are the test's own
}

/// A service with the QEMU driver; one domain "web" with two small disks.
class QemuSnapshots : public World {
protected:
    static constexpr std::size_t cells = 4, cell = 65536;  ///< what is looked at: the first bytes of each disk

    QemuSnapshots() : qemu_ports_{make_ports()} {
        boot();
        for (const auto* disk : {"a", "b"}) {
            ASSERT_TRUE_(shell("qemu-img create -f qcow2 " + image(disk) + " 1M") == 0);
            put(image(disk), 0, 1);
        }
    }
    ~QemuSnapshots() override {
        if (auto domain = room->domains().find(uuid_of("web")); domain && is_active(domain->view().state))
            finish(domain->stop({}, caller));
        room.reset();
    }
    static void ASSERT_TRUE_(bool ok) {
        if (!ok) throw std::runtime_error{"the test's images cannot be made"};
    }

    void boot() {
        room.reset();
        audience.told.clear();
        qemu_.reset();
        qemu_ = std::make_unique<qemu::QemuDriver>(qemu_ports_);
        patience.kill = Duration{10'000};
        patience.verb = Duration{20'000};
        patience.adopt = Duration{20'000};
        room.emplace(qemu_ports_, std::vector<HypervisorDriver*>{qemu_.get()}, nullptr, callers, audience, patience);
        run(room->load());
    }

    std::string image(const std::string& name) const { return root + "/" + name + ".qcow2"; }
    /// Writes a value into one cell of an image that nobody uses.
    static void put(const std::string& path, std::size_t at, unsigned value) {
        ASSERT_TRUE_(shell("qemu-io -f qcow2 -c 'write -P " + std::to_string(value) + " " + std::to_string(at * cell) +
                           " " + std::to_string(cell) + "' " + path) == 0);
    }
    /// What the guest would see there: the values of the cells; 256 for a cell that holds different bytes.
    std::vector<unsigned> seen(const std::string& path) const {
        const auto raw = root + "/seen.raw";
        ASSERT_TRUE_(shell("qemu-img convert -U -O raw " + path + " " + raw) == 0);
        const auto bytes = read(raw);
        std::vector<unsigned> values;
        for (std::size_t i = 0; i < cells; ++i) {
            const auto part = bytes.substr(i * cell, cell);
            const bool same = part.find_first_not_of(part[0]) == part.npos && part.size() == cell;
            values.push_back(same ? static_cast<unsigned char>(part[0]) : 256);
        }
        return values;
    }
    using Cells = std::vector<unsigned>;

    DomainPtr define_web(const std::string& more = {}) {
        std::string disks;
        for (const auto* disk : {"a", "b"})
            disks += "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='" + image(disk) +
                     "'/><target dev='vd" + disk + "' bus='virtio'/></disk>";
        return define("<domain type='qemu'><name>web</name><uuid>" + uuid_of("web") +
                      "</uuid><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>" +
                      more + "<devices>" + disks + "<memballoon model='none'/></devices></domain>");
    }
    DomainPtr web() { return get("web"); }
    void start(bool paused = true) {
        StartOptions options;
        options.paused = paused;
        finish(web()->start(options, caller));
    }
    void stop() { finish(web()->stop({}, caller)); }
    void take(const std::string& name, SnapshotCreateOptions options = {}, const std::string& inner = {}) {
        finish(web()
                   ->snapshots()
                   .create("<domainsnapshot><name>" + name + "</name>" + inner + "</domainsnapshot>", options, caller)
                   .job);
    }
    void take_outside(const std::string& name) { take(name, {.disk_only = true}); }
    void remove(const std::string& name, MomentDeleteOptions options = {}) {
        finish(web()->snapshots().remove(name, options, caller));
    }
    void revert(const std::string& name, RevertOptions options = {}) {
        finish(web()->snapshots().revert(name, options, caller));
    }
    /// What the disk writes to.
    std::string top(const std::string& target) {
        for (const auto& disk : web()->view().disks) {
            std::string name, source;
            for (const auto& [field, value] : disk) {
                if (field == "target") name = std::get<std::string>(value);
                if (field == "source") source = std::get<std::string>(value);
            }
            if (name == target) return source;
        }
        return {};
    }
    std::vector<std::string> names() {
        std::vector<std::string> list;
        for (const auto* view : web()->snapshots().list()) list.push_back(view->name);
        return list;
    }
    const SnapshotView& snapshot(const std::string& name) { return web()->snapshots().get(name); }
    std::vector<std::string> tags(const std::string& path) const {
        std::vector<std::string> found;
        const auto list = root + "/tags";
        ASSERT_TRUE_(std::system(("qemu-img snapshot -U -l " + path + " > " + list).c_str()) == 0);
        std::istringstream lines{read(list)};
        for (std::string line; std::getline(lines, line);) {
            std::istringstream words{line};
            std::string number, tag;
            words >> number >> tag;
            if (!number.empty() && std::isdigit(static_cast<unsigned char>(number[0]))) found.push_back(tag);
        }
        return found;
    }

private:
    Ports make_ports() {
        const char* launcher = std::getenv("VIRTBUS_LAUNCHER");
        if (!launcher) throw std::runtime_error{"VIRTBUS_LAUNCHER must name virtbus-launch"};
        plain_units_ = std::make_unique<systemd::PlainUnits>(host.loop, launcher, std::nullopt);
        return Ports{host.loop, clock,         host.outside_workers, files,          host.spawner,
                     log,       *plain_units_, ports->folders,       ports->boot_id, false};
    }
    std::unique_ptr<systemd::PlainUnits> plain_units_;
    Ports qemu_ports_;
    std::unique_ptr<qemu::QemuDriver> qemu_;
};

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

TEST_F(QemuSnapshots, AnImageWithAnOverlayIsNotRevertedUnderIt) {
    define_web();
    take("inside");
    take_outside("outside");
    EXPECT_REFUSED(revert("inside"), Code::invalid_state, "a.outside");
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

// ---- a daemon that dies --------------------------------------------------------------------------------------------

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

}  // namespace
}  // namespace virtbus::tests
