// SPDX-License-Identifier: LGPL-2.1-or-later
// A real Linux under the real daemon: its agent freezes the file systems for a snapshot, thaws them, and shuts down;
// what it writes while images are merged is there afterwards.
#include <filesystem>

#include "tests/bus/guest_shell.hpp"
#include "tests/support/kernel.hpp"
#include "tests/support/shell.hpp"

namespace virtbus::tests {
namespace {

struct LinuxUnderTheDaemon : ::testing::Test {
    void SetUp() override {
        const auto kernel = newest_kernel();
        if (kernel.empty()) GTEST_SKIP() << "no cloud kernel in /boot (package linux-image-cloud-amd64)";
        if (!succeeds("command -v qemu-ga")) GTEST_SKIP() << "no qemu-ga (package qemu-guest-agent)";
        if (!succeeds("PATH=$PATH:/usr/sbin:/sbin command -v mkfs.ext4"))
            GTEST_SKIP() << "no mkfs.ext4 (package e2fsprogs)";
        make_initramfs();
        ASSERT_TRUE(bed.start()) << read_file(bed.log());
        client = bed.connect();
        kernel_ = kernel;
    }
    /// `firmware` is what stands in <os>: an attribute and an element.
    void begin(const std::string& format = "raw", const std::string& attribute = "", const std::string& element = "") {
        ASSERT_TRUE(succeeds("truncate -s 32M " + disk() + " && PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q " + disk()));
        if (format != "raw")
            ASSERT_TRUE(succeeds("qemu-img convert -O " + format + " " + disk() + " " + disk() + ".new && mv " +
                                 disk() + ".new " + disk()));
        path = text_of(
            client->call(root, manager, "DefineDomain", "sa{sv}",
                         ("<domain type='qemu'><name>guest</name><memory unit='MiB'>256</memory><vcpu>1</vcpu><os " +
                          attribute + "><type arch='x86_64' machine='q35'>hvm</type>" + element + "<kernel>" + kernel_ +
                          "</kernel><initrd>" + initrd() +
                          "</initrd><cmdline>console=ttyS0 quiet</cmdline></os><features><acpi/></features><devices>"
                          "<disk type='file' device='disk'><driver name='qemu' type='" +
                          format + "'/><source file='" + disk() +
                          "'/><target dev='vda' bus='virtio'/></disk><serial type='pty'/>"
                          "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
                          "</devices></domain>")
                             .c_str(),
                         0));
        ASSERT_TRUE(path.starts_with(root + "/domain/")) << path;
        boot();
    }
    void TearDown() override {
        shell.close();
        if (client) client->call(path, domain, "Stop", "a{sv}", 0);
        client.reset();
        bed.stop();
        if (HasFailure()) std::fprintf(stderr, "%s\n%s", shell.said.c_str(), read_file(bed.log()).c_str());
    }
    std::string initrd() const { return bed.folder / "initrd"; }
    std::string disk() const { return bed.folder / "disk"; }

    /// The small Linux, and behind it the agent with all it is linked with.
    void make_initramfs() {
        const auto* script = std::getenv("VIRTBUS_MAKE_INITRAMFS");
        ASSERT_TRUE(script);
        ASSERT_TRUE(succeeds(std::string{script} + " " + initrd()));
        const std::string more = bed.folder / "more";
        ASSERT_TRUE(succeeds("mkdir -p " + more + "/sbin && agent=$(command -v qemu-ga) && cp $agent " + more +
                             "/sbin/qemu-ga && for file in $(ldd $agent | grep -o '/[^ ]*'); do mkdir -p " + more +
                             "$(dirname $file) && cp -L $file " + more +
                             "$file; done && printf '#!/bin/sh\\npoweroff -f\\n' >" + more +
                             "/sbin/shutdown && chmod 755 " + more + "/sbin/shutdown && (cd " + more +
                             " && find . | cpio -o -H newc --quiet) >>" + initrd()));
    }
    void boot() {
        const auto add =
            client->make("/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "org.freedesktop.DBus");
        sd_bus_message_append(add.get(), "s", "type='signal',sender='org.virtbus1'");
        ASSERT_TRUE(client->send(add).wait().ok());
        ASSERT_EQ(text_of(client->call(path, domain, "Start", "a{sv}", 1, "paused", "b", 1)), "/");
        shell.said.clear();
        ASSERT_EQ(shell.open(*client, path), "");
        ASSERT_TRUE(client->call(path, domain, "Resume", "a{sv}", 0).ok());
        ASSERT_TRUE(shell.is_ready());
    }
    template <class Condition>
    bool eventually(Condition condition) {
        const auto tick = bed.loop_tick();
        return bed.loop.run_until(condition, patience);
    }
    /// The agent answers from here on.
    void start_agent() {
        ASSERT_TRUE(shell.does(
            "mkdir -p /var/run /run && /sbin/qemu-ga -m virtio-serial -p /dev/vport*p1 -t /tmp -f /tmp/pid -d"));
        ASSERT_TRUE(eventually([&] {
            return std::any_of(client->signals.begin(), client->signals.end(),
                               [&](const auto& one) { return one.path == path && one.member == "AgentChanged"; });
        }));
    }
    bool needs_recovery() const {
        return output_of("PATH=$PATH:/usr/sbin:/sbin dumpe2fs -h " + disk() + " 2>/dev/null").find("needs_recovery") !=
               std::string::npos;
    }
    Answer snapshot(const char* name) {
        const auto xml = "<domainsnapshot><name>" + std::string{name} + "</name></domainsnapshot>";
        return client->call(path, domain, "CreateSnapshot", "sa{sv}", xml.c_str(), 2, "disk-only", "b", 1, "quiesce",
                            "b", 1);
    }

    DaemonBed bed{false};
    std::unique_ptr<Client> client;
    GuestShell shell{bed};
    std::string path;

private:
    std::string kernel_;
};

TEST_F(LinuxUnderTheDaemon, FreezesForASnapshotThawsAndShutsDown) {
    begin();
    ASSERT_TRUE(shell.does("mkdir -p /mnt && mount -t ext4 /dev/vda /mnt && echo before >/mnt/file"));
    EXPECT_TRUE(needs_recovery()) << "it is mounted, and nobody has frozen it";
    EXPECT_EQ(snapshot("early").error, error_prefix + "AgentUnavailable");
    start_agent();
    const auto taken = snapshot("quiet");
    ASSERT_TRUE(taken.ok()) << taken.error << ": " << taken.message;
    EXPECT_FALSE(needs_recovery()) << "the image was frozen with a file system that was not";
    EXPECT_EQ(output_of("PATH=$PATH:/usr/sbin:/sbin debugfs -R 'cat /file' " + disk() + " 2>/dev/null"), "before\n");
    EXPECT_TRUE(shell.does("echo after >/mnt/file && sync")) << "it is still frozen";

    ASSERT_TRUE(client->call(path, domain, "Shutdown", "a{sv}", 1, "mode", "s", "agent").ok());
    EXPECT_TRUE(eventually([&] { return property(*client, path, domain, "State") == "shutoff"; }));
}

TEST_F(LinuxUnderTheDaemon, LosesNothingThatItWritesWhileImagesAreMerged) {
    begin();
    ASSERT_TRUE(shell.does("mkdir -p /mnt && mount -t ext4 /dev/vda /mnt && cd /mnt"));
    ASSERT_TRUE(
        shell.does("(for i in $(seq 100); do dd if=/dev/urandom of=f$i bs=32k count=2 conv=fsync 2>/dev/null; "
                   "md5sum f$i >>sums; done; sync; echo all''-written) & true"));
    int merged = 0;
    while (!shell.has("all-written\r")) {
        const auto name = "s" + std::to_string(++merged),
                   xml = "<domainsnapshot><name>" + name + "</name></domainsnapshot>";
        const auto taken = client->call(path, domain, "CreateSnapshot", "sa{sv}", xml.c_str(), 1, "disk-only", "b", 1);
        ASSERT_TRUE(taken.ok()) << taken.message;
        const auto removed = client->call(path + "/snapshot/" + name, "org.virtbus1.Snapshot", "Delete", "a{sv}", 0);
        ASSERT_TRUE(removed.ok()) << removed.message;
    }
    EXPECT_GE(merged, 2);
    ASSERT_TRUE(shell.does("cd / && umount /mnt"));
    ASSERT_TRUE(client->call(path, domain, "Stop", "a{sv}", 0).ok());
    EXPECT_NE(text_of(client->call(path, domain, "GetXML", "a{sv}", 0)).find("<source file='" + disk() + "'/>"),
              std::string::npos);
    const std::string copy = bed.folder / "copy";
    EXPECT_TRUE(succeeds("PATH=$PATH:/usr/sbin:/sbin e2fsck -fn " + disk()));
    ASSERT_TRUE(
        succeeds("mkdir " + copy + " && PATH=$PATH:/usr/sbin:/sbin debugfs -R 'rdump / " + copy + "' " + disk()));
    EXPECT_EQ(output_of("wc -l <" + copy + "/sums"), "100\n");
    EXPECT_TRUE(succeeds("cd " + copy + " && md5sum -c sums"));
}

TEST_F(LinuxUnderTheDaemon, HasItsFirmwaresVariablesBackAfterARevert) {
    if (::access("/usr/share/OVMF/OVMF_CODE_4M.fd", R_OK) != 0) GTEST_SKIP() << "no OVMF (package ovmf)";
    begin("qcow2", "firmware='efi'", "<firmware><feature enabled='no' name='secure-boot'/></firmware>");
    const auto variable = [](const std::string& name) {
        return "/sys/firmware/efi/efivars/" + name + "-12345678-1234-1234-1234-123456789abc";
    };
    const auto write = [&](const std::string& name) {
        return shell.does("printf '\\007\\000\\000\\000value' >" + variable(name));
    };
    ASSERT_TRUE(write("Before"));
    const auto moment = text_of(client->call(path, domain, "CreateSnapshot", "sa{sv}",
                                             "<domainsnapshot><name>moment</name></domainsnapshot>", 0));
    ASSERT_EQ(moment, path + "/snapshot/moment");
    ASSERT_TRUE(write("After"));
    ASSERT_EQ(text_of(client->call(moment, "org.virtbus1.Snapshot", "Revert", "a{sv}", 0)), "/");
    EXPECT_TRUE(shell.does("[ -e " + variable("Before") + " ] && [ ! -e " + variable("After") + " ]"));
    EXPECT_TRUE(write("Later")) << "the store cannot be written any more";
    ASSERT_TRUE(client->call(path, domain, "Stop", "a{sv}", 0).ok());
    boot();
    EXPECT_TRUE(shell.does("[ -e " + variable("Before") + " ]"));
    EXPECT_TRUE(shell.does("[ ! -e " + variable("After") + " ]")) << "the store did not go back with the machine";
    EXPECT_TRUE(shell.does("[ -e " + variable("Later") + " ]"));
}

TEST_F(LinuxUnderTheDaemon, GoesBackToAMomentWhoseMemoryWasSavedWhileItRan) {
    begin("qcow2");
    ASSERT_TRUE(shell.does("touch /tmp/before"));
    const auto xml = "<domainsnapshot><name>moment</name><memory snapshot='external' file='" + (bed.folder / "memory") +
                     "'/></domainsnapshot>";
    const auto taken = client->call(path, domain, "CreateSnapshot", "sa{sv}", xml.c_str(), 1, "live", "b", 1);
    ASSERT_TRUE(taken.ok()) << taken.error << ": " << taken.message;
    EXPECT_EQ(property(*client, path, domain, "State"), "running");
    ASSERT_TRUE(shell.does("touch /tmp/after"));
    ASSERT_EQ(text_of(client->call(path + "/snapshot/moment", "org.virtbus1.Snapshot", "Revert", "a{sv}", 0)), "/");
    EXPECT_EQ(property(*client, path, domain, "State"), "running");
    ASSERT_EQ(shell.open(*client, path), "");
    EXPECT_TRUE(shell.does("[ -e /tmp/before ] && [ ! -e /tmp/after ]"));
}

}  // namespace
}  // namespace virtbus::tests
