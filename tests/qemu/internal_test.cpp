// SPDX-License-Identifier: LGPL-2.1-or-later
// Snapshots inside the images of a real QEMU: taken while it runs, loaded by it and by a fresh one.
#include "tests/qemu/block_bed.hpp"

namespace virtbus::tests {
namespace {

class Internal : public BlockGuest {
protected:
    void prepare(DomainConfig& config) override {
        if (!with_store) return;
        // Its content is never run: that it is flash with a store beside it is enough.
        shell("truncate -s 256K code.fd");
        shell("test -e vars.qcow2 || qemu-img create -q -f qcow2 vars.qcow2 256K");
        config.features.emplace().acpi.emplace();
        auto& loader = config.os.loader.emplace();
        loader.path = path("code.fd");
        loader.type = "pflash";
        loader.readonly = true;
        auto& store = config.os.nvram.emplace();
        store.path = path("vars.qcow2");
        store.format = "qcow2";
    }
    void two_disks(bool paused = false) {
        make_image("a.qcow2", 1);
        make_image("b.qcow2", 2);
        start({disk(path("a.qcow2")), limited_disk()}, paused);
    }
    Disk limited_disk() const {
        auto limited = disk(path("b.qcow2"), "vdb");
        limited.iotune.emplace().total_bytes_sec = 1 << 30;
        return limited;
    }
    InternalSnapshot named(const std::string& tag) const { return {tag, {"vda", "vdb"}, with_store}; }
    void take(const std::string& tag) { bed.run(qemu::take_internal(core, named(tag), {}, {})); }
    void load(const std::string& tag) { bed.run(qemu::load_internal(core, named(tag), {}, {})); }
    void remove(const std::string& tag) { bed.run(qemu::remove_internal(core, named(tag), {})); }
    void take_disks(const std::string& tag) { bed.run(qemu::take_disks_only(core, named(tag), {})); }
    bool has_tag(const std::string& image, const std::string& tag) const {
        return std::system(fmt::format("qemu-img snapshot -U -l {} | grep -qw {}", path(image), tag).c_str()) == 0;
    }

    bool with_store = false;
};

TEST_F(Internal, HoldDisksMemoryAndStore) {
    with_store = true;
    two_disks();
    write(5, 5);
    write(6, 5, "virtio-disk1");
    take("one");
    bed.run_until([&] { return core->life.state() == State::running; });
    EXPECT_TRUE(heard("paused snapshot"));
    for (const auto* image : {"a.qcow2", "b.qcow2", "vars.qcow2"}) EXPECT_TRUE(has_tag(image, "one")) << image;
    write(7, 5);
    write(7, 5, "virtio-disk1");
    load("one");
    EXPECT_EQ(core->life.state(), State::paused);
    EXPECT_EQ(core->life.reason(), "from-snapshot");
    expect_bytes(5, 5);
    expect_bytes(6, 5, "virtio-disk1");
    qmp("cont");
    bed.run_until([&] { return heard("running from-snapshot"); });
    remove("one");
    remove("one");
    for (const auto* image : {"a.qcow2", "b.qcow2", "vars.qcow2"}) EXPECT_FALSE(has_tag(image, "one")) << image;
    EXPECT_TRUE(core->record.job.empty());
    EXPECT_TRUE(qmp("query-jobs").empty());
    end();
}

TEST_F(Internal, OfAPausedGuestLeaveItPaused) {
    two_disks(true);
    take("one");
    EXPECT_EQ(core->life.state(), State::paused);
    EXPECT_EQ(core->life.reason(), "starting-up");
    qmp("cont");
    bed.run_until([&] { return heard("running unpaused"); });
    end();
}

TEST_F(Internal, AreLoadedByAFreshMachine) {
    two_disks();
    write(5, 5);
    take("one");
    write(7, 5);
    end();
    leave();
    start({disk(path("a.qcow2")), limited_disk()}, true);
    load("one");
    EXPECT_EQ(core->life.state(), State::paused);
    expect_bytes(5, 5);
    qmp("cont");
    bed.run_until([&] { return core->life.state() == State::running; });
    end();
}

TEST_F(Internal, FailWhole) {
    two_disks();
    take("one");
    EXPECT_EQ(refusal([&] { take("one"); }).first, Code::already_exists);
    bed.run_until([&] { return core->life.state() == State::running; });
    const auto [code, message] = refusal([&] { load("two"); });
    EXPECT_EQ(code, Code::hypervisor_failed);
    EXPECT_NE(message.find("'two'"), std::string::npos) << message;
    EXPECT_EQ(core->life.state(), State::paused) << "it must not run on";
    qmp("cont");
    std::stop_source stopping;
    stopping.request_stop();
    const auto stopped = [&] { bed.run(qemu::take_internal(core, named("three"), {}, stopping.get_token())); };
    EXPECT_EQ(refusal(stopped).first, Code::cancelled);
    EXPECT_FALSE(has_tag("a.qcow2", "three"));
    end();
}

TEST_F(Internal, OfTheDisksAloneAreAllOrNone) {
    two_disks();
    write(5, 5);
    take_disks("safe");
    EXPECT_EQ(core->life.state(), State::running);
    EXPECT_EQ(refusal([&] { take_disks("safe"); }).first, Code::hypervisor_failed);
    bed.run(qemu::remove_internal(core, {"safe", {"vda"}, false}, {}));
    EXPECT_EQ(refusal([&] { take_disks("safe"); }).first, Code::hypervisor_failed) << "vdb has one";
    EXPECT_FALSE(has_tag("a.qcow2", "safe"));
    write(7, 5);
    remove("safe");
    take_disks("safe");
    write(8, 5);
    end();
    shell("qemu-img snapshot -a safe a.qcow2 && qemu-io -r -c 'read -P 7 5M 1M' a.qcow2");
}

TEST_F(Internal, AreTakenAfterASaveThatWasUndone) {
    two_disks(true);
    const auto record = on_record();
    leave();
    Notes notes;
    GuestEnd over;
    auto guest = bed.run(bed.driver->adopt(record.config, record.state, notes, over));
    bed.run(guest->save(Fd{::open(path("memory").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)}, {}, {}, false));
    bed.run(guest->undo_save(false));
    bed.run(guest->disk_work()->take_internal(named("one"), {}, {}));
    EXPECT_EQ(guest->config().devices.disks.size(), 2U);
    bed.run(guest->resume({}));
    bed.run_until([&] { return notes.has("state running unpaused"); });
    bed.stop(*guest, notes);
    EXPECT_TRUE(has_tag("b.qcow2", "one"));
}

}  // namespace
}  // namespace virtbus::tests
