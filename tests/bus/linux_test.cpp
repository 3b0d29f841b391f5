// SPDX-License-Identifier: LGPL-2.1-or-later
// A real Linux under the real daemon: its agent freezes the file systems for a snapshot, thaws them, and shuts down;
// what it writes while images are merged is there afterwards.
#include <fmt/format.h>

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
    /// What stands in <os>, an attribute and an element, and among the devices.
    void begin(const std::string& format = "raw", const std::string& attribute = "", const std::string& element = "",
               const std::string& devices = "") {
        ASSERT_TRUE(succeeds("truncate -s 32M " + disk() + " && PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q " + disk()));
        if (format != "raw")
            ASSERT_TRUE(succeeds("qemu-img convert -O " + format + " " + disk() + " " + disk() + ".new && mv " +
                                 disk() + ".new " + disk()));
        path = text_of(
            client->call(root, manager, "DefineDomain", "sa{sv}",
                         ("<domain type='qemu'><name>guest</name><memory unit='MiB'>256</memory><vcpu>1</vcpu><os " +
                          attribute + "><type arch='x86_64' machine='q35'>hvm</type>" + element + "<kernel>" + kernel_ +
                          "</kernel><initrd>" + initrd() +
                          "</initrd><cmdline>console=ttyS0 quiet no_timer_check</cmdline></os><features><acpi/></features><devices>"
                          "<disk type='file' device='disk'><driver name='qemu' type='" +
                          format + "'/><source file='" + disk() +
                          "'/><target dev='vda' bus='virtio'/></disk><serial type='pty'/>"
                          "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>" +
                          devices + "</devices></domain>")
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

/// What a TPM remembers over a power cycle (an NV index) and what it does not (a PCR), as the guest's own commands see
/// it.
struct LinuxWithATpm : LinuxUnderTheDaemon {
    void SetUp() override {
        LinuxUnderTheDaemon::SetUp();
        if (HasFatalFailure() || IsSkipped()) return;
        if (::access("/usr/bin/swtpm", X_OK) != 0) GTEST_SKIP() << "no swtpm (package swtpm)";
        begin("qcow2", "", "", "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>");
        ASSERT_TRUE(command(empty_password("8002", "0000012a", "40000001",
                                           "0000"
                                           "000e"
                                           "01500016"
                                           "000b"
                                           "02060006"
                                           "0000"
                                           "0008")));
    }
    /// Without the length, which is put in here.
    static std::string empty_password(const std::string& tag, const std::string& code, const std::string& handles,
                                      const std::string& rest) {
        const auto body = code + handles +
                          "00000009"
                          "400000090000000000" +
                          rest;
        return fmt::format("{}{:08x}{}", tag, body.size() / 2 + 6, body);
    }
    /// The guest's `answer` has what the TPM said, in hexadecimal digits.
    bool command(const std::string& bytes) {
        std::string octal;
        for (std::size_t i = 0; i < bytes.size(); i += 2)
            octal += fmt::format("\\{:03o}", std::stoi(bytes.substr(i, 2), nullptr, 16));
        return shell.does(
            "printf '" + octal +
            "' >/tmp/command && exec 4<>/dev/tpm0 && cat /tmp/command >&4 && answer=$(dd bs=4096 count=1 <&4 "
            "2>/dev/null | od -An -v -tx1 | tr -d ' \\n') && exec 4>&- && "
            "[ $(echo $answer | cut -c13-20) = 00000000 ]");
    }
    /// Eight letters.
    bool write(const std::string& word) {
        return command(empty_password("8002", "00000137", "4000000101500016", "0008" + hex(word) + "0000"));
    }
    bool holds(const std::string& word) {
        return command(empty_password("8002", "0000014e", "4000000101500016", "00080000")) &&
               shell.does("[ $(echo $answer | cut -c33-48) = " + hex(word) + " ]");
    }
    bool extend() {
        return command(empty_password("8002", "00000182", "00000010",
                                      "00000001"
                                      "000b" +
                                          std::string(64, '1')));
    }
    static std::string hex(const std::string& word) {
        std::string digits;
        for (const char c : word) digits += fmt::format("{:02x}", static_cast<unsigned char>(c));
        return digits;
    }
    const std::string register_ = "/sys/class/tpm/tpm0/pcr-sha256/16";

    /// A moment that is gone back to further down.
    void before() {
        ASSERT_TRUE(write("earlier."));
        ASSERT_TRUE(extend());
        ASSERT_TRUE(shell.does("cat " + register_ + " >/tmp/register && ! grep -q ^0*$ /tmp/register"));
    }
    void after() {
        ASSERT_TRUE(write("and then"));
        ASSERT_TRUE(extend());
        ASSERT_TRUE(shell.does("! cmp -s " + register_ + " /tmp/register"));
    }
    void is_back() {
        EXPECT_TRUE(holds("earlier."));
        EXPECT_TRUE(shell.does("cmp -s " + register_ + " /tmp/register"));
    }
    /// It goes on remembering.
    void is_in_use() {
        ASSERT_TRUE(write("tomorrow"));
        ASSERT_TRUE(client->call(path, domain, "Stop", "a{sv}", 0).ok());
        boot();
        EXPECT_TRUE(holds("tomorrow"));
        EXPECT_TRUE(shell.does("grep -q ^0*$ " + register_)) << "it was switched off";
    }
    void revert() {
        ASSERT_EQ(text_of(client->call(path + "/snapshot/moment", "org.virtbus1.Snapshot", "Revert", "a{sv}", 0)), "/");
        ASSERT_EQ(shell.open(*client, path), "");
    }
};

TEST_F(LinuxWithATpm, FindsItAsItWasAfterAManagedSave) {
    before();
    ASSERT_EQ(text_of(client->call(path, domain, "ManagedSave", "a{sv}", 0)), "/");
    ASSERT_EQ(property(*client, path, domain, "State"), "shutoff");
    ASSERT_EQ(text_of(client->call(path, domain, "Start", "a{sv}", 0)), "/");
    ASSERT_EQ(shell.open(*client, path), "");
    is_back();
    is_in_use();
}

TEST_F(LinuxWithATpm, GoesBackWithItInARunningMachine) {
    before();
    const auto taken = client->call(path, domain, "CreateSnapshot", "sa{sv}",
                                    "<domainsnapshot><name>moment</name></domainsnapshot>", 0);
    ASSERT_TRUE(taken.ok()) << taken.error << ": " << taken.message;
    after();
    revert();
    is_back();
    is_in_use();
    ASSERT_TRUE(client->call(path, domain, "Stop", "a{sv}", 0).ok());
    revert();
    is_back();
}

TEST_F(LinuxWithATpm, GoesBackWithItWhenItIsSwitchedOff) {
    const auto stop = [&] { ASSERT_TRUE(client->call(path, domain, "Stop", "a{sv}", 0).ok()); };
    before();
    stop();
    const auto taken = client->call(path, domain, "CreateSnapshot", "sa{sv}",
                                    "<domainsnapshot><name>moment</name></domainsnapshot>", 0);
    ASSERT_TRUE(taken.ok()) << taken.error << ": " << taken.message;
    boot();
    EXPECT_TRUE(holds("earlier."));
    ASSERT_TRUE(write("and then"));
    stop();
    ASSERT_EQ(text_of(client->call(path + "/snapshot/moment", "org.virtbus1.Snapshot", "Revert", "a{sv}", 0)), "/");
    boot();
    EXPECT_TRUE(holds("earlier."));
    is_in_use();
}

TEST_F(LinuxWithATpm, GoesBackWithItToMemoryInAFile) {
    before();
    const auto xml = "<domainsnapshot><name>moment</name><memory snapshot='external' file='" + (bed.folder / "memory") +
                     "'/></domainsnapshot>";
    const auto taken = client->call(path, domain, "CreateSnapshot", "sa{sv}", xml.c_str(), 1, "live", "b", 1);
    ASSERT_TRUE(taken.ok()) << taken.error << ": " << taken.message;
    after();
    revert();
    is_back();
    is_in_use();
    revert();
    is_back();
}

}  // namespace
}  // namespace virtbus::tests
