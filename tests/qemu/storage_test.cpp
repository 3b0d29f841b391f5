// SPDX-License-Identifier: LGPL-2.1-or-later
// Real guests on storage that is more than a file: encrypted images, servers on this host, disks that forget.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "tests/qemu/qemu_bed.hpp"

namespace virtbus::tests {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct KeyedResources final : PlainResources {
    Task<std::string> secret(SecretRef) override { co_return key; }
    std::string key = "opensesame";
};

/// A server that goes into the background when it is ready, and ends with the test.
class Server {
public:
    Server(const std::string& command, const std::string& pid_file) {
        EXPECT_EQ(std::system(command.c_str()), 0) << command;
        std::ifstream{pid_file} >> pid_;
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() {
        if (pid_ <= 1) return;
        const Fd process{static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0))};
        ::kill(pid_, SIGKILL);
        pollfd gone{process.get(), POLLIN, 0};
        ::poll(&gone, 1, -1);  // its locks go with it
    }

private:
    pid_t pid_ = 0;
};

class StorageGuest : public testing::Test {
protected:
    std::string path(const std::string& name) const { return bed.host.folder.path() + "/" + name; }
    void run(const std::string& command) {
        ASSERT_EQ(std::system(fmt::format("cd {} && {} >/dev/null 2>&1", bed.host.folder.path(), command).c_str()), 0)
            << command;
    }
    /// qemu-img measures how fast it stretches keys, and on a busy machine gives up at times.
    void make_encrypted(const char* format, const std::string& prefix, const char* name) {
        run(
            fmt::format("for try in 1 2 3 4 5 6; do qemu-img create {} --object secret,id=k,data=opensesame -o "
                        "{}key-secret=k,{}iter-time=10 {} 1M && break; done; test -e {}",
                        format, prefix, prefix.empty() ? "" : "encrypt.", name, name));
    }
    static Disk disk(std::string file, std::string format) {
        Disk disk;
        disk.target.dev = "vda";
        disk.target.bus = "virtio";
        disk.driver.emplace().type = std::move(format);
        disk.source.emplace().file = std::move(file);
        return disk;
    }
    /// What QEMU says of the start; "" when the guest ran.
    std::string start(const Disk& disk, std::optional<Disk> second = {}) {
        auto config = QemuBed::bare();
        config.memory_backing.emplace().access_mode = "shared";
        config.devices.disks.push_back(disk);
        if (second) {
            second->target.dev = "vdb";
            config.devices.disks.push_back(*second);
        }
        Notes notes;
        bed.run(complete(*bed.driver, config));
        StartRequest request{.config = std::move(config),
                             .id = ++id,
                             .paused = false,
                             .reset_nvram = false,
                             .resources = resources,
                             .events = notes,
                             .deadline = in(Duration{60000}),
                             .stop = resources.stop()};
        try {
            auto guest = bed.run(bed.driver->start(std::move(request)));
            bed.stop(*guest, notes);
        } catch (const Error& error) {
            return error.what();
        }
        return "";
    }
    static Task<> complete(qemu::QemuDriver& driver, DomainConfig& config) {
        co_await driver.complete(config, nullptr);
    }

    QemuBed bed;
    KeyedResources resources;
    std::uint32_t id = 0;
};

TEST_F(StorageGuest, OpensEncryptedImagesWithTheRightKeyOnly) {
    make_encrypted("-f luks", "", "safe.luks");
    make_encrypted("-f qcow2", "encrypt.format=luks,encrypt.", "safe.qcow2");
    for (const char* format : {"raw", "qcow2"}) {
        auto safe = disk(path(format == std::string{"raw"} ? "safe.luks" : "safe.qcow2"), format);
        auto& encryption = safe.source->encryption.emplace();
        encryption.format = "luks";
        encryption.secrets.emplace_back().uuid = "6473fd97-f1f6-4d35-bd11-4a1a5f0ea5a4";
        resources.key = "opensesame";
        EXPECT_EQ(start(safe), "") << format;
        resources.key = "guessed";
        EXPECT_NE(start(safe).find("password"), std::string::npos) << format;
    }
}

TEST_F(StorageGuest, AnImageThatSomebodyElseWritesIsRefusedByItsName) {
    run("qemu-img create -f qcow2 base.qcow2 1M");
    run("qemu-img create -f qcow2 -b base.qcow2 -F qcow2 above.qcow2");
    const auto base = disk(path("base.qcow2"), "qcow2"), above = disk(path("above.qcow2"), "qcow2");
    auto reader = base, sharer = disk(path("base.qcow2"), "raw");
    reader.readonly = true;
    sharer.shareable = true;
    {
        const Server writer{
            fmt::format("qemu-nbd --fork --pid-file={0}/pid -t -k {0}/nbd.sock {0}/base.qcow2", bed.host.folder.path()),
            path("pid")};
        for (const auto& each : {base, above, reader, sharer})
            EXPECT_THAT(start(each), AllOf(HasSubstr("disk 'vda'"), HasSubstr(path("base.qcow2")),
                                           HasSubstr("in use by another process")));
    }
    {
        const Server other{fmt::format("qemu-nbd --fork --pid-file={0}/pid -r -t -k {0}/nbd.sock {0}/base.qcow2",
                                       bed.host.folder.path()),
                           path("pid")};
        EXPECT_EQ(start(reader), "");
        EXPECT_EQ(start(above), "") << "both only read it";
        EXPECT_THAT(start(base), HasSubstr("in use by another process"));
    }
    EXPECT_EQ(start(base), "");
}

TEST_F(StorageGuest, TwoDisksOnOneImageAreRefusedUnlessTheyShareIt) {
    run("qemu-img create -f qcow2 base.qcow2 1M");
    run("qemu-img create -f qcow2 -b base.qcow2 -F qcow2 above.qcow2");
    run("qemu-img create -f raw shared.img 1M");
    ASSERT_EQ(::symlink("base.qcow2", path("other.qcow2").c_str()), 0);
    const auto base = disk(path("base.qcow2"), "qcow2"), other = disk(path("other.qcow2"), "qcow2"),
               above = disk(path("above.qcow2"), "qcow2");
    for (const auto& second : {base, other, above})
        EXPECT_THAT(start(base, second), AllOf(HasSubstr("'vda' and 'vdb'"), HasSubstr("<shareable/>")));
    auto reader = base, sharer = disk(path("shared.img"), "raw");
    reader.readonly = true;
    EXPECT_EQ(start(reader, reader), "");
    EXPECT_EQ(start(reader, above), "");
    sharer.shareable = true;
    EXPECT_EQ(start(sharer, sharer), "");
}

TEST_F(StorageGuest, ReachesAnNbdServerThroughASocketThatTheDaemonConnected) {
    run("qemu-img create -f raw served.img 1M");
    const Server server{fmt::format("qemu-nbd --fork --pid-file={0}/pid -f raw -t -e 4 -x served -k {0}/nbd.sock "
                                    "{0}/served.img",
                                    bed.host.folder.path()),
                        path("pid")};
    auto remote = disk("", "raw");
    remote.type = StorageType::network;
    remote.source->protocol = "nbd";
    remote.source->name = "served";
    auto& host = remote.source->hosts.emplace_back();
    host.transport = "unix";
    host.socket = path("nbd.sock");
    EXPECT_EQ(start(remote), "");
    remote.source->name = "other";
    EXPECT_NE(start(remote), "") << "it did not ask for the export";
}

TEST_F(StorageGuest, TakesAnImageOnAServerThatStandsAloneAndNoOther) {
    run("qemu-img create -f qcow2 alone.qcow2 1M");
    run("qemu-img create -f raw base.img 1M");
    run("qemu-img create -f qcow2 -b base.img -F raw above.qcow2");
    for (const char* name : {"alone", "above"}) {
        const Server server{
            fmt::format("qemu-nbd --fork --pid-file={0}/pid -f raw -t -e 4 -k {0}/{1}.sock {0}/{1}.qcow2",
                        bed.host.folder.path(), name),
            path("pid")};
        auto remote = disk("", "qcow2");
        remote.type = StorageType::network;
        remote.source->protocol = "nbd";
        auto& host = remote.source->hosts.emplace_back();
        host.transport = "unix";
        host.socket = path(std::string{name} + ".sock");
        const auto refusal = start(remote);
        if (name == std::string{"alone"})
            EXPECT_EQ(refusal, "");
        else
            EXPECT_NE(refusal.find("'base.img'"), std::string::npos) << refusal;
    }
}

TEST_F(StorageGuest, UsesADiskOfAVhostUserServer) {
    run("qemu-img create -f raw served.img 1M");
    const Server server{fmt::format("qemu-storage-daemon --daemonize --pidfile {0}/pid --blockdev "
                                    "file,filename={0}/served.img,node-name=n --export "
                                    "vhost-user-blk,id=e,node-name=n,writable=on,addr.type=unix,addr.path={0}/vu.sock",
                                    bed.host.folder.path()),
                        path("pid")};
    auto remote = disk("", "raw");
    remote.type = StorageType::vhostuser;
    remote.source->path = path("vu.sock");
    EXPECT_EQ(start(remote), "");
}

TEST_F(StorageGuest, RunsOnTransientAndOnDividedDisks) {
    run("qemu-img create -f qcow2 base.qcow2 64M");
    auto forgetful = disk(path("base.qcow2"), "qcow2");
    forgetful.transient.emplace();
    EXPECT_EQ(start(forgetful), "");
    run("qemu-img create -f qcow2 -o data_file=data.raw,data_file_raw=on divided.qcow2 1M");
    EXPECT_EQ(start(disk(path("divided.qcow2"), "qcow2")), "");
}

TEST_F(StorageGuest, TakesADiskOnEveryBus) {
    run("truncate -s 1440K disk.img");
    run("qemu-img create -q -f qcow2 disk.qcow2 1M");
    struct {
        const char *bus, *target;
        DiskDevice device;
    } const places[] = {
        {"virtio", "vda", DiskDevice::disk}, {"scsi", "sda", DiskDevice::disk},  {"scsi", "sda", DiskDevice::cdrom},
        {"sata", "sda", DiskDevice::disk},   {"sata", "sda", DiskDevice::cdrom}, {"usb", "sda", DiskDevice::disk},
        {"usb", "sda", DiskDevice::cdrom},   {"fdc", "fda", DiskDevice::floppy},
    };
    for (const auto& [bus, target, device] : places)
        for (const auto* format : {"raw", "qcow2"}) {
            auto one = disk(path(std::string{"disk."} + (format == std::string_view{"raw"} ? "img" : format)), format);
            one.target.bus = bus;
            one.target.dev = target;
            one.device = device;
            one.readonly = device == DiskDevice::cdrom;
            EXPECT_EQ(start(one), "") << bus << ' ' << word(device) << ' ' << format;
        }
}

}  // namespace
}  // namespace virtbus::tests
