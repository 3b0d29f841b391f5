// SPDX-License-Identifier: LGPL-2.1-or-later
// Checkpoints and backups as the service does them, with a real QEMU below: what is restored is compared with the disk
// byte by byte, and records with bitmaps, also after the daemon has died half way.
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "plain_units.hpp"
#include "qemu/driver.hpp"
#include "qemu/json.hpp"
#include "qemu/monitor.hpp"
#include "qemu/starter.hpp"
#include "tests/service/world.hpp"

namespace virtbus::tests {
namespace {

using nlohmann::json;

class Checkpointing : public World {
protected:
    Checkpointing() {
        const char* launcher = std::getenv("VIRTBUS_LAUNCHER");
        plain_ = std::make_unique<systemd::PlainUnits>(host.loop, launcher ? launcher : "", std::nullopt);
        const auto folders = ports->folders;
        ports.emplace(
            Ports{host.loop, clock, host.outside_workers, files, host.spawner, log, *plain_, folders, "boot-1", false});
        patience.kill = Duration{15'000};
        shell("qemu-img create -q -f qcow2 disk.qcow2 4M");
    }
    ~Checkpointing() override {
        if (room && get_web() && get_web()->view().state != State::shutoff) finish(get_web()->stop({}, caller));
        monitor_.reset();
        room.reset();
        qemu_.reset();
    }
    DomainPtr get_web() { return room->domains().get("web"); }

    void boot_daemon() {
        monitor_.reset();
        room.reset();
        qemu_.emplace(*ports);
        audience.told.clear();
        room.emplace(*ports, std::vector<HypervisorDriver*>{&*qemu_}, nullptr, nullptr, callers, audience, patience);
        run(room->load());
    }
    std::string definition() const {
        return "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>web</name><uuid>" +
               uuid_of("web") +
               "</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type>"
               "</os><devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='" +
               root + "/disk.qcow2'/><target dev='vda' bus='virtio'/></disk></devices><qemu:commandline>" +
               "<qemu:arg value='-qmp'/><qemu:arg value='unix:" + root +
               "/second,server=on,wait=off'/></qemu:commandline></domain>";
    }
    void start() {
        boot_daemon();
        define(definition());
        finish(get_web()->start({}, caller));
        connect();
    }
    void connect() {
        monitor_ = std::make_unique<qemu::Monitor>(host.loop, qemu::connect_socket(root + "/second"), "the test",
                                                   qemu::Monitor::Handlers{});
    }
    json ask(const char* command, json arguments = json::object()) {
        return run(monitor_->execute(command, arguments, in(Duration{10'000})));
    }
    void io(const std::string& what) {
        const auto said =
            ask("human-monitor-command",
                {{"command-line", "qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend \"" + what + "\""}});
        ASSERT_EQ(said.get<std::string>().find("rror"), std::string::npos) << said;
    }
    void shell(const std::string& command) {
        ASSERT_EQ(std::system(("cd " + root + " && " + command + " >/dev/null 2>&1").c_str()), 0) << command;
    }
    std::string bytes(const std::string& image) {
        shell("qemu-img convert -f qcow2 -O raw " + image + " bytes.raw");
        return read(root + "/bytes.raw");
    }
    /// The bitmaps that QEMU has, those that record with a '+'.
    std::set<std::string> bitmaps() {
        std::set<std::string> names;
        for (const auto& node : ask("query-named-block-nodes", {{"flat", true}}))
            for (const auto& each : qemu::member(node, "dirty-bitmaps"))
                names.insert(qemu::text(each, "name") + (qemu::flag(each, "recording") ? "+" : ""));
        return names;
    }
    Checkpoints& checkpoints() { return get_web()->checkpoints(); }
    std::set<std::string> names() {
        std::set<std::string> all;
        for (const auto* view : checkpoints().list()) all.insert(view->name + (view->current ? "+" : ""));
        return all;
    }
    void checkpoint(const std::string& name, const std::string& more = {}) {
        finish(checkpoints()
                   .create("<domaincheckpoint><name>" + name + "</name>" + more + "</domaincheckpoint>", {}, caller)
                   .job);
    }
    void drop(const std::string& name, MomentDeleteOptions options = {}) {
        finish(checkpoints().remove(name, options, caller));
    }
    static std::string named(const std::string& name) {
        return "<domaincheckpoint><name>" + name + "</name></domaincheckpoint>";
    }
    JobPtr backup(const std::string& inside, const std::string& checkpoint = {}, const std::string& mode = "push") {
        BackupOptions options;
        options.checkpoint = checkpoint.empty() ? "" : named(checkpoint);
        return get_web()->backups().begin("<domainbackup mode='" + mode + "'>" + inside + "</domainbackup>", options,
                                          caller);
    }
    void push(const std::string& file, const std::string& since = {}, const std::string& checkpoint = {}) {
        const auto more = since.empty() ? std::string{} : "<incremental>" + since + "</incremental>";
        finish(backup(more + "<disks><disk name='vda'><target file='" + root + '/' + file + "'/></disk></disks>",
                      checkpoint));
    }
    /// What the guest sees now.
    std::string disk_now() {
        std::filesystem::remove(root + "/now.qcow2");
        push("now.qcow2");
        return bytes("now.qcow2");
    }
    void serving(const JobPtr& job) {
        ASSERT_TRUE(until([&] { return job->finished() || job->view().phase == "serving"; }));
        ASSERT_FALSE(job->finished()) << job->view().error_message;
    }

    std::unique_ptr<systemd::PlainUnits> plain_;
    std::optional<qemu::QemuDriver> qemu_;
    std::unique_ptr<qemu::Monitor> monitor_;
};

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
