// SPDX-License-Identifier: LGPL-2.1-or-later
// Snapshots, checkpoints and backups of disks that are no plain qcow2 file: what can be done is whole, what cannot is
// refused before anything is changed, by a sentence that names the disk.
#include <unistd.h>

#include "tests/qemu/checkpoint_bed.hpp"

namespace virtbus::tests {
namespace {

class KindsOfDisks : public Checkpointing {
protected:
    ~KindsOfDisks() override {
        if (room && get_web() && running()) finish(get_web()->stop({}, caller));
        for (const auto& device : loops_) (void)std::system(("losetup -d " + device).c_str());
        if (server_ > 0) {
            ::kill(server_, SIGTERM);
            ::waitpid(server_, nullptr, 0);
        }
    }
    bool running() { return is_active(get_web()->view().state); }
    /// A block device of 16 MiB; "" when the machine has none to give.
    std::string device(const std::string& name) {
        shell("truncate -s 16M " + name);
        if (std::system(("cd " + root + " && losetup -f --show " + name + " > said 2>/dev/null").c_str()) != 0)
            return {};
        loops_.push_back(read(root + "/said"));
        loops_.back().pop_back();
        return loops_.back();
    }
    void stop() {
        finish(get_web()->stop({}, caller));
        monitor_.reset();
    }
    void start_again() {
        finish(get_web()->start({}, caller));
        connect();
    }
    void snapshot(const std::string& name, const std::string& disks, SnapshotCreateOptions options = {}) {
        finish(get_web()
                   ->snapshots()
                   .create("<domainsnapshot><name>" + name + "</name>" + disks + "</domainsnapshot>", options, caller)
                   .job);
    }
    void remove(const std::string& name) { finish(get_web()->snapshots().remove(name, {}, caller)); }
    void revert(const std::string& name) { finish(get_web()->snapshots().revert(name, {}, caller)); }
    /// A pushed backup of one disk, as the bytes that a guest would see.
    std::string pushed(const std::string& target, const std::string& since = {}, const std::string& on = {}) {
        const auto name = "copy-" + std::to_string(++copies_);
        finish(backup((since.empty() ? "" : "<incremental>" + since + "</incremental>") + "<disks><disk name='" +
                      target + "'><target file='" + root + '/' + name + "'/></disk></disks>"));
        last_ = name;
        if (!on.empty()) shell("qemu-img rebase -u -f qcow2 -F qcow2 -b " + on + " " + name);
        return bytes(name);
    }
    std::size_t snapshots() { return get_web()->snapshots().list().size(); }
    bool nothing_of(const std::string& name) {
        for (const auto& entry : std::filesystem::directory_iterator{root})
            if (entry.path().filename().string().find(name) != std::string::npos) return false;
        return true;
    }

    std::vector<std::string> loops_;
    std::string last_;
    unsigned copies_ = 0;
    pid_t server_ = 0;
};

TEST_F(KindsOfDisks, BlockDevices) {
    const auto a = device("a.dev"), over = device("over.dev"), target = device("target.dev");
    if (a.empty() || over.empty() || target.empty()) GTEST_SKIP() << "loop devices take root and a kernel with them";
    shell("qemu-img create -q -f qcow2 " + a + " 4M");
    disks_ = disk("vda", "qcow2", "dev='" + a + "'", "block");
    start();
    io("write -P 1 0 1M");
    EXPECT_REFUSED(snapshot("s1", "", {.disk_only = true}), Code::unsupported_configuration, "'vda'");
    checkpoint("one");
    const auto full = pushed("vda");
    const auto base = last_;
    io("write -P 2 512k 1M");
    const auto on_device =
        "<disks><disk name='vda' snapshot='external' type='block'><driver type='qcow2'/><source dev='" + over +
        "'/></disk></disks>";
    snapshot("s1", on_device, {.disk_only = true});
    io("write -P 3 2M 64k");
    EXPECT_TRUE(pushed("vda", "one", base) == pushed("vda"));
    remove("s1");
    io("write -P 4 3M 64k");
    const auto now = pushed("vda");
    EXPECT_TRUE(pushed("vda", "one", base) == now);
    // To a device, as it is.
    finish(backup("<disks><disk name='vda' type='block'><driver type='raw'/><target dev='" + target +
                  "'/></disk></disks>"));
    shell("sync " + target);
    EXPECT_TRUE(read(root + "/target.dev").substr(0, 4 << 20) == now);
    stop();
    // While it is off: inside, outside, back, and merged.
    snapshot("in", "");
    start_again();
    io("write -P 9 0 4M");
    EXPECT_FALSE(pushed("vda") == now);
    stop();
    EXPECT_REFUSED(revert("in"), Code::revert_risky, "checkpoints");
    EXPECT_EQ(names(), (std::set<std::string>{"one+"}));
    finish(get_web()->snapshots().revert("in", {.force = true}, caller));
    EXPECT_TRUE(names().empty());
    start_again();
    EXPECT_TRUE(pushed("vda") == now);
    stop();
    snapshot("out", on_device);
    start_again();
    io("write -P 8 0 64k");
    io("flush");
    const auto later = pushed("vda");
    stop();
    remove("out");
    start_again();
    EXPECT_TRUE(pushed("vda") == later);
}

TEST_F(KindsOfDisks, OnAServer) {
    shell("qemu-img create -q -f raw served.raw 4M");
    const auto socket = root + "/nbd.sock";
    server_ = ::fork();
    if (server_ == 0) {
        ::execlp("qemu-nbd", "qemu-nbd", "-t", "-f", "raw", "-k", socket.c_str(), (root + "/served.raw").c_str(),
                 nullptr);
        ::_exit(127);
    }
    ASSERT_TRUE(until([&] { return exists(socket); }));
    disks_ =
        "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd'><host "
        "transport='unix' socket='" +
        socket + "'/></source><target dev='vda' bus='virtio'/></disk>" + disk("vdb", "qcow2", file("disk.qcow2"));
    start();
    io("write -P 1 0 1M");
    io("write -P 7 0 1M", 1);
    // Of what lies with others only copies are made.
    EXPECT_REFUSED(snapshot("s1", ""), Code::unsupported_configuration, "'vda'");
    EXPECT_REFUSED(snapshot("s1", "", {.disk_only = true}), Code::unsupported_configuration, "'vda'");
    EXPECT_REFUSED(snapshot("s1", "<disks><disk name='vda'><source file='" + root + "/vda.s1'/></disk></disks>",
                            {.disk_only = true}),
                   Code::unsupported_configuration, "'vda'");
    EXPECT_REFUSED(checkpoint("one", "<disks><disk name='vda' checkpoint='bitmap'/></disks>"),
                   Code::unsupported_configuration, "'vda'");
    EXPECT_TRUE(nothing_of("s1"));
    EXPECT_EQ(snapshots(), 0U);
    EXPECT_TRUE(bitmaps().empty());
    checkpoint("one");  // of the other
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"one+"}));
    const auto copy = pushed("vda");
    EXPECT_TRUE(copy == read(root + "/served.raw"));
    EXPECT_EQ(copy.substr(0, 1 << 20), std::string(1 << 20, '\1'));
    snapshot("s1", "<disks><disk name='vda' snapshot='no'/><disk name='vdb' snapshot='external'/></disks>",
             {.disk_only = true});
    remove("s1");
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"one+"}));
}

TEST_F(KindsOfDisks, OfAllSortsAtOnce) {
    shell(
        "qemu-img create -q -f raw raw.img 1M && qemu-img create -q -f qcow2 ro.qcow2 1M && "
        "qemu-img create -q -f raw cd.iso 1M && qemu-img create -q -f raw shared.img 1M");
    disks_ += disk("vdb", "raw", file("raw.img")) + disk("vdc", "qcow2", file("ro.qcow2"), "file", "<readonly/>") +
              disk("vdd", "raw", file("shared.img"), "file", "<shareable/>") +
              "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source " + file("cd.iso") +
              "/><target dev='sda' bus='sata'/><readonly/></disk>" +
              "<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/><readonly/></disk>";
    start();
    io("write -P 1 0 1M");
    io("write -P 2 0 1M", 1);
    EXPECT_REFUSED(snapshot("s1", ""), Code::unsupported_configuration, "'vdb'");
    const auto alone = [](const std::string& target) {
        return "<disks><disk name='vdd' snapshot='no'/><disk name='" + target + "' snapshot='external'/></disks>";
    };
    EXPECT_REFUSED(snapshot("s1", alone("sdb"), {.disk_only = true}), Code::unsupported_configuration, "'sdb'");
    EXPECT_REFUSED(snapshot("s1", alone("vdc"), {.disk_only = true}), Code::unsupported_configuration, "'vdc'");
    EXPECT_REFUSED(snapshot("s1", alone("sda"), {.disk_only = true}), Code::unsupported_configuration, "'sda'");
    // An overlay would part those who share it.
    EXPECT_REFUSED(snapshot("s1", "", {.disk_only = true}), Code::unsupported_configuration, "'vdd'");
    EXPECT_TRUE(nothing_of("s1"));
    EXPECT_REFUSED(checkpoint("one", "<disks><disk name='vdb'/></disks>"), Code::unsupported_configuration, "'vdb'");
    EXPECT_REFUSED(checkpoint("one", "<disks><disk name='sdb'/></disks>"), Code::unsupported_configuration, "'sdb'");
    EXPECT_REFUSED(finish(backup("<disks><disk name='sdb'/></disks>")), Code::unsupported_configuration, "'sdb'");
    EXPECT_REFUSED(finish(backup("<disks><disk name='vdc'/></disks>")), Code::unsupported_configuration, "'vdc'");
    snapshot("s1", "<disks><disk name='vdd' snapshot='no'/></disks>", {.disk_only = true});
    io("write -P 3 64k 64k");
    io("write -P 4 64k 64k", 1);
    checkpoint("one");
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"one+"}));
    finish(backup("<disks><disk name='vda'><target " + file("a.full") + "/></disk><disk name='vdb'><target " +
                  file("b.full") + "/></disk></disks>"));
    const auto a = bytes("a.full"), b = bytes("b.full");
    EXPECT_EQ(b.substr(0, 64 << 10), std::string(64 << 10, '\2'));
    EXPECT_EQ(b.substr(64 << 10, 64 << 10), std::string(64 << 10, '\4'));
    remove("s1");
    EXPECT_TRUE(pushed("vda") == a);
    EXPECT_TRUE(pushed("vdb") == b);
    // The raw image below kept no bitmap; that of the other went down.
    EXPECT_EQ(bitmaps(), (std::set<std::string>{"one+"}));
    EXPECT_REFUSED(pushed("vdb", "one"), Code::checkpoint_inconsistent, "'vdb'");
    stop();
    EXPECT_TRUE(read(root + "/raw.img") == b);
}

TEST_F(KindsOfDisks, OfAnySize) {
    // No whole number of clusters, nor of 4096 bytes; images round up to sectors.
    shell(
        "qemu-img create -q -f qcow2 odd.qcow2 1000003 && qemu-img create -q -f raw other.raw 1049088 && "
        "qemu-img create -q -f qcow2 small.qcow2 512");
    disks_ = disk("vda", "qcow2", file("odd.qcow2")) + disk("vdb", "raw", file("other.raw")) +
             disk("vdc", "qcow2", file("small.qcow2"));
    start();
    io("write -P 1 999936 512");
    io("write -P 2 1048576 512", 1);
    io("write -P 3 0 512", 2);
    checkpoint("one");
    const auto full = pushed("vda");
    const auto base = last_;
    EXPECT_EQ(full.size(), 1000448U);
    EXPECT_EQ(full.substr(999936), std::string(512, '\1'));
    EXPECT_EQ(pushed("vdb").substr(1048576), std::string(512, '\2'));
    EXPECT_EQ(pushed("vdc"), std::string(512, '\3'));
    snapshot("s1", "", {.disk_only = true});
    io("write -P 4 999936 512");
    io("write -P 5 1048064 1024", 1);
    io("write -P 6 0 512", 2);
    const auto now = pushed("vda"), raw = pushed("vdb");
    EXPECT_TRUE(pushed("vda", "one", base) == now);
    remove("s1");
    EXPECT_TRUE(pushed("vda", "one", base) == now);
    EXPECT_TRUE(pushed("vdb") == raw);
    stop();
    EXPECT_TRUE(read(root + "/other.raw") == raw);
}

TEST_F(KindsOfDisks, OfOtherFormats) {
    shell(
        "qemu-img create -q -f vmdk m.vmdk 4M && qemu-img create -q -f vdi v.vdi 4M && "
        "qemu-img create -q -f qcow2 -o data_file=disk.data,data_file_raw=on with.qcow2 4M");
    disks_ = disk("vda", "vmdk", file("m.vmdk")) + disk("vdb", "vdi", file("v.vdi")) +
             disk("vdc", "qcow2", file("with.qcow2"));
    start();
    for (unsigned i = 0; i < 3; ++i) io("write -P " + std::to_string(i + 1) + " 0 1M", i);
    EXPECT_REFUSED(snapshot("s1", ""), Code::unsupported_configuration, "'vda'");
    EXPECT_REFUSED(checkpoint("one", "<disks><disk name='vdb'/></disks>"), Code::unsupported_configuration, "'vdb'");
    EXPECT_EQ(snapshots(), 0U);
    snapshot("s1", "", {.disk_only = true});
    std::vector<std::string> now;
    for (unsigned i = 0; i < 3; ++i) {
        io("write -P " + std::to_string(i + 4) + " 512k 1M", i);
        now.push_back(pushed("vd" + std::string(1, static_cast<char>('a' + i))));
        EXPECT_EQ(now.back()[0], static_cast<char>(i + 1));
        EXPECT_EQ(now.back()[1 << 20], static_cast<char>(i + 4));
    }
    // QEMU cannot be given the one with a file of its own for its data to write: what is left is done when it is off.
    EXPECT_REFUSED(remove("s1"), Code::unsupported, "with.qcow2");
    for (unsigned i = 0; i < 3; ++i) {
        EXPECT_TRUE(pushed("vd" + std::string(1, static_cast<char>('a' + i))) == now[i]) << i;
        io("flush", i);
    }
    stop();
    EXPECT_REFUSED(remove("s1"), Code::no_such_snapshot, "s1");  // what had begun was brought to its end first
    EXPECT_EQ(snapshots(), 0U);
    snapshot("s2", "", {.disk_only = true});
    start_again();
    for (unsigned i = 0; i < 3; ++i) {
        io("write -P 9 3M 64k", i);
        io("flush", i);  // a guest that is stopped has lost what it did not ask to be written
        now[i] = pushed("vd" + std::string(1, static_cast<char>('a' + i)));
    }
    stop();
    remove("s2");
    shell(
        "qemu-img convert -f vmdk -O raw m.vmdk a.raw && qemu-img convert -f vdi -O raw v.vdi b.raw && "
        "qemu-img convert -f qcow2 -O raw with.qcow2 c.raw && cmp c.raw disk.data");
    EXPECT_TRUE(read(root + "/a.raw") == now[0]);
    EXPECT_TRUE(read(root + "/b.raw") == now[1]);
    EXPECT_TRUE(read(root + "/c.raw") == now[2]);
}

}  // namespace
}  // namespace virtbus::tests
