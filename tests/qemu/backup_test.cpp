// SPDX-License-Identifier: LGPL-2.1-or-later
// Bitmaps and backups of real QEMU processes. The test writes to the disk through the device, as the guest would, over
// a second monitor; what a backup has is compared with the disk byte by byte.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "qemu/backup/disk_chain.hpp"
#include "qemu/json.hpp"
#include "qemu/starter.hpp"
#include "tests/qemu/qemu_bed.hpp"

namespace virtbus {
namespace {

using nlohmann::json;
using tests::Notes;
using tests::QemuBed;
using Kind = BitmapChange::Kind;

std::string bytes_of(const std::string& path) {
    std::ifstream file{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
}

class Backup : public ::testing::Test {
protected:
    std::string path(const std::string& name) const { return bed_.host.folder.path() + "/" + name; }
    void run(const std::string& command) {
        ASSERT_EQ(std::system(("cd " + bed_.host.folder.path() + " && " + command + " >/dev/null 2>&1").c_str()), 0)
            << command;
    }
    static Disk disk_on(const std::string& target, const std::string& file, const std::string& format = "qcow2") {
        Disk disk;
        disk.target.dev = target;
        disk.target.bus = "virtio";
        disk.driver.emplace().type = format;
        disk.source.emplace().file = file;
        return disk;
    }
    /// Runs with these disks; the CPUs find nothing to boot.
    void start(std::vector<Disk> disks) {
        auto config = QemuBed::bare("backed-up");
        config.devices.disks = std::move(disks);
        auto& extra = config.qemu_commandline.emplace();
        extra.args.push_back({"-qmp"});
        extra.args.push_back({"unix:" + path("second") + ",server=on,wait=off"});
        guest_ = bed_.start(std::move(config), notes_);
        monitor_ = std::make_unique<qemu::Monitor>(bed_.host.loop, qemu::connect_socket(path("second")), "the test",
                                                   qemu::Monitor::Handlers{});
        work_ = guest_->bitmap_work();
        ASSERT_TRUE(work_);
    }
    void start_one() {
        run("qemu-img create -q -f qcow2 disk.qcow2 4M");
        auto disk = disk_on("vda", path("disk.qcow2"));
        disk.iotune.emplace().total_iops_sec = 100000;  // a filter between device and image
        start({std::move(disk)});
    }
    json ask(const char* command, json arguments = json::object()) {
        return bed_.run(monitor_->execute(command, arguments, in(Duration{10000})));
    }
    void io(const std::string& what, const std::string& alias = "virtio-disk0") {
        const auto said =
            ask("human-monitor-command",
                {{"command-line", "qemu-io -d /machine/peripheral/" + alias + "/virtio-backend \"" + what + "\""}});
        ASSERT_EQ(said.get<std::string>().find("rror"), std::string::npos) << said;
    }
    void change(std::vector<BitmapChange> changes) { bed_.run(work_->change_bitmaps(std::move(changes), {})); }
    static BitmapChange add(const std::string& name) { return {Kind::add, "vda", name, ""}; }
    static BitmapChange disable(const std::string& name) { return {Kind::disable, "vda", name, ""}; }
    std::optional<BitmapFacts> bitmap(const std::string& name, const std::string& image = "") {
        for (auto& each : bed_.run(work_->bitmaps({})))
            if (each.name == name && (image.empty() || each.image == path(image))) return each;
        return std::nullopt;
    }
    BackupPart part(const std::string& image, std::vector<std::string> since = {}) {
        run("qemu-img create -q -f qcow2 " + image + " 4M");
        return {"vda", {path(image), "qcow2"}, std::move(since), "vda", "backup-vda"};
    }
    void begin(bool pull, std::vector<BackupPart> parts, std::vector<BitmapChange> changes = {}) {
        Fd listener;
        if (pull) listener = qemu::listen_at(path("nbd"));
        bed_.run(work_->begin_backup(
            BackupRequest{pull, std::move(parts), std::move(changes), std::move(listener), bed_.resources}, {}));
    }
    void push(BackupPart one, std::vector<BitmapChange> changes = {}) {
        begin(false, {std::move(one)}, std::move(changes));
        bed_.run(work_->finish_backup({}, {}));
        bed_.run(work_->end_backup());
    }
    /// What the guest sees of the disk now, by way of a full push.
    std::string disk_now() {
        push(part("now.qcow2"));
        return guest_bytes("now.qcow2");
    }
    std::string guest_bytes(const std::string& image) {
        run("qemu-img convert -f qcow2 -O raw " + image + " bytes.raw");
        return bytes_of(path("bytes.raw"));
    }
    std::string pulled() {
        run("qemu-img convert -f raw -O raw 'nbd+unix:///vda?socket=nbd' pulled.raw");
        return bytes_of(path("pulled.raw"));
    }
    /// Everything of a backup that QEMU could still have.
    json traces() {
        json all = json::array();
        for (const auto& node : ask("query-named-block-nodes", {{"flat", true}})) {
            if (qemu::text(node, "node-name").starts_with("virtbus-backup")) all.push_back(node["node-name"]);
            for (const auto& each : qemu::member(node, "dirty-bitmaps"))
                if (each["name"] == "virtbus-backup") all.push_back(each);
        }
        for (const auto* command : {"query-jobs", "query-block-exports"})
            for (const auto& each : ask(command)) all.push_back(each);
        return all;
    }
    /// Ends in an orderly way: QEMU writes what it still holds.
    void quit() {
        monitor_->send("quit");
        bed_.run_until([&] { return notes_.ended(); });
    }
    template <class F>
    std::pair<Code, std::string> refusal(F work) {
        try {
            work();
        } catch (const Error& error) {
            return {error.code(), error.what()};
        }
        return {Code::internal, "it was not refused"};
    }
    void TearDown() override {
        if (!guest_ || notes_.ended()) return;
        bed_.stop(*guest_, notes_);
    }

    QemuBed bed_;
    Notes notes_;
    std::unique_ptr<Guest> guest_;
    std::unique_ptr<qemu::Monitor> monitor_;
    BitmapWork* work_ = nullptr;
};

TEST_F(Backup, BitmapsChangeInOneStepOrNotAtAll) {
    start_one();
    change({add("one")});
    io("write -P 1 0 64k");
    change({disable("one"), add("two")});
    io("write -P 2 1M 64k");
    auto one = bitmap("one"), two = bitmap("two");
    ASSERT_TRUE(one && two);
    EXPECT_FALSE(one->recording);
    EXPECT_TRUE(two->recording && two->persistent);
    EXPECT_EQ(one->dirty, 65536U);
    EXPECT_EQ(two->dirty, 65536U);
    EXPECT_EQ(two->image, path("disk.qcow2"));
    EXPECT_EQ(refusal([&] { change({add("three"), {Kind::merge, "vda", "one", "missing"}}); }).first,
              Code::checkpoint_inconsistent);
    EXPECT_EQ(refusal([&] { change({add("three"), add("two")}); }).first, Code::already_exists);
    EXPECT_EQ(refusal([&] { change({{Kind::add, "vdz", "three", ""}}); }).first, Code::no_such_device);
    EXPECT_FALSE(bitmap("three"));
    change({{Kind::merge, "vda", "one", "two"}, {Kind::remove, "vda", "two", ""}, {Kind::enable, "vda", "one", ""}});
    one = bitmap("one");
    ASSERT_TRUE(one);
    EXPECT_TRUE(one->recording);
    EXPECT_EQ(one->dirty, 2 * 65536U);
    EXPECT_FALSE(bitmap("two"));
    quit();
    run("qemu-img info disk.qcow2 | grep -q 'name: one'");
}

TEST_F(Backup, AMergeTakesUpTheBitmapsOfTheImagesBelow) {
    run("qemu-img create -q -f qcow2 disk.qcow2 4M && qemu-img bitmap --add disk.qcow2 one && "
        "qemu-io -f qcow2 -c 'write -P 1 0 64k' disk.qcow2 && "
        "qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 top.qcow2 && qemu-img bitmap --add top.qcow2 one");
    start({disk_on("vda", path("top.qcow2"))});
    io("write -P 2 1M 64k");
    ASSERT_TRUE(bitmap("one", "disk.qcow2"));
    EXPECT_EQ(bitmap("one", "disk.qcow2")->dirty, 65536U);
    EXPECT_EQ(bitmap("one", "top.qcow2")->dirty, 65536U);
    push(part("inc.qcow2", {"one"}));
    run("qemu-img create -q -f qcow2 zero.qcow2 4M && qemu-img rebase -u -f qcow2 -F qcow2 -b zero.qcow2 inc.qcow2");
    EXPECT_EQ(guest_bytes("inc.qcow2"), disk_now());
    // Into one that only the top has, and into one that has to be made there.
    change({disable("one"), add("two"), {Kind::merge, "vda", "two", "one"}, {Kind::merge, "vda", "fresh", "one"}});
    EXPECT_EQ(bitmap("two")->dirty, 2 * 65536U);
    EXPECT_EQ(bitmap("fresh")->dirty, 2 * 65536U);
    EXPECT_FALSE(bitmap("fresh")->recording);
    change({{Kind::remove, "vda", "one", ""}});
    EXPECT_FALSE(bitmap("one", "top.qcow2"));
}

TEST_F(Backup, AFullPushEqualsTheDisk) {
    start_one();
    io("write -P 17 0 128k");
    io("write -P 18 3M 1M");
    std::uint64_t done = 0, of = 0;
    auto raw = part("full.raw");
    run("rm full.raw && truncate -s 4M full.raw");
    raw.image.format = "raw";
    begin(false, {raw});
    bed_.run(work_->finish_backup([&](std::uint64_t now, std::uint64_t total) { done = now, of = total; }, {}));
    EXPECT_EQ(done, of);
    EXPECT_GE(of, 4U << 20);
    bed_.run(work_->end_backup());
    EXPECT_EQ(traces(), json::array());
    const auto bytes = bytes_of(path("full.raw"));
    ASSERT_EQ(bytes.size(), 4U << 20);
    EXPECT_EQ(bytes.substr(0, 128 << 10), std::string(128 << 10, '\x11'));
    EXPECT_EQ(bytes.substr(3 << 20), std::string(1 << 20, '\x12'));
    quit();
    EXPECT_TRUE(guest_bytes("disk.qcow2") == bytes);
}

TEST_F(Backup, IncrementalPushesRestoreTheExactBytes) {
    start_one();
    io("write -P 1 0 1M");
    push(part("full.qcow2"), {add("one")});
    io("write -P 2 512k 1M");
    io("write -z 64k 64k");
    const auto first = disk_now();
    push(part("inc1.qcow2", {"one"}), {disable("one"), add("two")});
    io("discard 0 64k");
    io("write -P 3 2M 100k");
    const auto second = disk_now();
    push(part("inc2.qcow2", {"two"}), {disable("two"), add("three")});
    push(part("both.qcow2", {"one", "two"}));
    io("write -P 4 0 4M");
    run("cp full.qcow2 zero.qcow2 && qemu-img rebase -u -F qcow2 -b full.qcow2 inc1.qcow2 && "
        "qemu-img rebase -u -F qcow2 -b inc1.qcow2 inc2.qcow2 && "
        "qemu-img rebase -u -F qcow2 -b zero.qcow2 both.qcow2");
    EXPECT_TRUE(guest_bytes("inc1.qcow2") == first);
    EXPECT_TRUE(guest_bytes("inc2.qcow2") == second);
    EXPECT_TRUE(guest_bytes("both.qcow2") == second);
    EXPECT_EQ(bitmap("one")->dirty, (1U << 20) + 65536U) << "a backup leaves the checkpoint's bitmap alone";
    EXPECT_FALSE(bitmap("one")->recording);
    EXPECT_TRUE(bitmap("three")->recording);
}

TEST_F(Backup, APullShowsTheMomentAndWhatChanged) {
    start_one();
    io("write -P 1 0 1M");
    change({add("one")});
    io("write -P 2 2M 128k");
    const auto moment = disk_now();
    begin(true, {part("scratch.qcow2", {"one"})}, {disable("one"), add("two")});
    EXPECT_TRUE(pulled() == moment);
    io("write -P 9 0 4M");
    EXPECT_TRUE(pulled() == moment) << "what the guest writes meanwhile shows";
    run("qemu-img map --output=json --image-opts "
        "driver=nbd,server.type=unix,server.path=nbd,export=vda,x-dirty-bitmap=qemu:dirty-bitmap:backup-vda | tee map");
    // Allocated means clean here.
    const auto map = qemu::parse_json(bytes_of(path("map")));
    std::uint64_t dirty = 0, at = 0;
    for (const auto& extent : map)
        if (!extent["data"].get<bool>()) dirty += extent["length"].get<std::uint64_t>(), at = extent["start"];
    EXPECT_EQ(dirty, 128U << 10) << map;
    EXPECT_EQ(at, 2U << 20) << map;
    bed_.run(work_->end_backup());
    EXPECT_EQ(traces(), json::array());
    EXPECT_EQ(bitmap("two")->dirty, 4U << 20);
    // And another one can follow.
    begin(true, {part("scratch.qcow2")});
    EXPECT_TRUE(pulled() == std::string(4 << 20, '\x09'));
    bed_.run(work_->end_backup());
    bed_.run(work_->end_backup());
}

TEST_F(Backup, ACancelledPushLeavesNothing) {
    run("qemu-img create -q -f qcow2 disk.qcow2 4M");
    start({disk_on("vda", path("disk.qcow2"))});
    io("write -P 1 0 4M");
    change({add("one")});
    begin(false, {part("full.qcow2")}, {disable("one"), add("two")});
    std::stop_source stop;
    stop.request_stop();
    const auto [code, message] = refusal([&] { bed_.run(work_->finish_backup({}, stop.get_token())); });
    if (code != Code::internal) EXPECT_EQ(code, Code::cancelled) << message;  // it may have been done already
    bed_.run(work_->end_backup());
    EXPECT_EQ(traces(), json::array());
    EXPECT_TRUE(bitmap("two"));
}

TEST_F(Backup, ATargetThatTakesNoMoreFailsTheBackupOnly) {
    start_one();
    io("write -P 1 0 4M");
    auto one = part("full.qcow2");
    const Fd memory{::memfd_create("target", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    const auto empty = bytes_of(one.image.path);
    ASSERT_EQ(::write(memory.get(), empty.data(), empty.size()), static_cast<ssize_t>(empty.size()));
    ASSERT_EQ(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_GROW), 0);
    one.image.path = "/proc/self/fd/" + std::to_string(memory.get());
    begin(false, {one}, {add("one")});
    EXPECT_EQ(refusal([&] { bed_.run(work_->finish_backup({}, {})); }).first, Code::hypervisor_failed);
    bed_.run(work_->end_backup());
    EXPECT_EQ(traces(), json::array());
    io("write -P 2 0 4M");
    EXPECT_EQ(bitmap("one")->dirty, 4U << 20);
}

TEST_F(Backup, WhatFailsHalfWayIsTakenBack) {
    start_one();
    change({add("one")});
    auto wrong = part("wrong.qcow2");
    run("qemu-img create -q -f qcow2 wrong.qcow2 1M");
    EXPECT_EQ(refusal([&] { begin(true, {wrong}, {add("two")}); }).first, Code::hypervisor_failed);
    EXPECT_EQ(traces(), json::array());
    EXPECT_FALSE(bitmap("two")) << "the bitmap came without the backup";
    EXPECT_EQ(refusal([&] { begin(false, {part("a.qcow2", {"missing"})}); }).first, Code::checkpoint_inconsistent);
    EXPECT_EQ(refusal([&] { begin(false, {{"vdz", {path("a.qcow2"), "qcow2"}, {}, "", ""}}); }).first,
              Code::no_such_device);
    begin(true, {part("scratch.qcow2")});
    bed_.run(work_->end_backup());
}

TEST_F(Backup, TwoDisksAreOfOneMoment) {
    run("qemu-img create -q -f qcow2 disk.qcow2 4M; truncate -s 4M other.raw");
    start({disk_on("vda", path("disk.qcow2")), disk_on("vdb", path("other.raw"), "raw")});
    io("write -P 1 0 64k");
    io("write -P 2 0 64k", "virtio-disk1");
    auto second = part("b.qcow2");
    second.disk = second.export_name = "vdb";
    begin(true, {part("a.qcow2"), second}, {add("one")});
    EXPECT_EQ(pulled().substr(0, 65536), std::string(65536, '\1'));
    io("write -P 3 0 64k", "virtio-disk1");
    run("qemu-img convert -f raw -O raw 'nbd+unix:///vdb?socket=nbd' other");
    EXPECT_EQ(bytes_of(path("other")).substr(0, 65536), std::string(65536, '\2'));
    EXPECT_EQ(refusal([&] { change({{Kind::add, "vdb", "one", ""}}); }).first, Code::unsupported_configuration);
    bed_.run(work_->end_backup());
    EXPECT_EQ(traces(), json::array());
}

TEST_F(Backup, ALaterDaemonEndsABackupThatItFinds) {
    start_one();
    change({add("one")});
    begin(true, {part("scratch.qcow2", {"one"})});
    const auto config = guest_->config();
    const auto record = guest_->driver_state();
    guest_.reset();
    bed_.driver = std::make_unique<qemu::QemuDriver>(bed_.host.ports);
    GuestEnd end;
    guest_ = bed_.run(bed_.driver->adopt(config, record, notes_, end));
    ASSERT_TRUE(guest_);
    EXPECT_EQ(traces(), json::array());
    work_ = guest_->bitmap_work();
    EXPECT_TRUE(bitmap("one")->recording);
    push(part("full.qcow2"));
}

TEST_F(Backup, TheGuestMayEndMeanwhile) {
    start_one();
    begin(true, {part("scratch.qcow2")});
    bed_.stop(*guest_, notes_);
    EXPECT_EQ(refusal([&] { bed_.run(work_->finish_backup({}, {})); }).first, Code::hypervisor_failed);
    bed_.run(work_->end_backup());
}

}  // namespace
}  // namespace virtbus
