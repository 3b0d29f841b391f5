// SPDX-License-Identifier: LGPL-2.1-or-later
// Shared folders through the real virtiofsd: it comes and goes with its guest, and what goes wrong with it is told.
// Stand-ins for it misbehave.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "qemu/helpers/virtiofsd.hpp"
#include "tests/qemu/linux_guest.hpp"

namespace virtbus {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using tests::Notes;
using tests::QemuBed;

constexpr const char* real_program = "/usr/lib/qemu/virtiofsd";

class VirtiofsTest : public ::testing::Test {
protected:
    VirtiofsTest() {
        for (const char* name : {"/shared", "/descriptors", "/stronger"}) std::filesystem::create_directory(path(name));
        programs_.vhost_user_folders = {path("/descriptors"), path("/stronger")};
        describe("/descriptors/50-real.json", real_program);
        renew();
    }
    void SetUp() override {
        if (::access(real_program, X_OK) != 0) GTEST_SKIP() << "no virtiofsd (package qemu-system-common)";
        if (::geteuid() != 0) GTEST_SKIP() << "this virtiofsd needs root";
    }
    std::string path(const std::string& name) const { return bed_.host.folder.path() + name; }
    void describe(const std::string& name, const std::string& program, const std::string& type = "fs") {
        std::ofstream{path(name)} << nlohmann::json{{"description", "a"}, {"type", type}, {"binary", program}}.dump();
    }
    void renew() { bed_.driver = std::make_unique<qemu::QemuDriver>(bed_.host.ports, bed_.times, programs_); }
    /// A program in virtiofsd's place.
    void stand_in(const std::string& script) {
        std::ofstream{path("/virtiofsd")} << "#!/bin/sh\n" << script << '\n';
        ::chmod(path("/virtiofsd").c_str(), 0755);
        describe("/descriptors/50-real.json", path("/virtiofsd"));
        programs_.times = {.answer = Duration{300}, .leave = Duration{300}};
        renew();
    }
    DomainConfig sharing() const {
        auto config = QemuBed::bare("shares");
        auto& backing = config.memory_backing.emplace();
        backing.source_type = "memfd";
        backing.access_mode = "shared";
        Filesystem filesystem;
        filesystem.driver.emplace().type = "virtiofs";
        filesystem.source.emplace().dir = path("/shared");
        filesystem.target_dir = "data";
        config.devices.filesystems.push_back(std::move(filesystem));
        return config;
    }
    struct Process {
        pid_t pid = 0;
        Fd pidfd;
        bool gone(int within = 0) const {
            pollfd state{pidfd.get(), POLLIN, 0};
            return ::poll(&state, 1, within) == 1;
        }
    };
    static Process server_of(const Guest& guest, std::size_t index = 0) {
        const auto record = nlohmann::json::parse(guest.driver_state());
        const auto pid = record.at("helpers").at(index).at("pid").get<pid_t>();
        return {pid, Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))}};
    }
    static std::size_t helpers_of(const Guest& guest) {
        return nlohmann::json::parse(guest.driver_state()).at("helpers").size();
    }
    std::string refusal(DomainConfig config) { return bed_.refusal(std::move(config), notes_); }
    /// Nobody was told of a file in the folder of this test.
    bool nothing_runs() const {
        for (const auto& entry : std::filesystem::directory_iterator{"/proc"}) {
            std::ifstream file{entry.path() / "cmdline"};
            const std::string line{std::istreambuf_iterator<char>{file}, {}};
            if (line.find(bed_.host.folder.path()) != line.npos) return false;
        }
        return true;
    }

    QemuBed bed_;
    Notes notes_;
    qemu::HelperPrograms programs_;
};

TEST_F(VirtiofsTest, ComesAndGoesWithItsGuest) {
    auto config = sharing();
    auto more = config.devices.filesystems[0];
    more.target_dir = "more";
    more.binary.emplace() = {.path = real_program,
                             .xattr = true,
                             .cache_mode = "always",
                             .sandbox_mode = "chroot",
                             .lock_posix = true,
                             .lock_flock = false,
                             .thread_pool_size = 4,
                             .openfiles_max = 1024,
                             .unknown = {}};
    config.devices.filesystems.push_back(more);
    const auto guest = bed_.start(config, notes_);
    const auto first = server_of(*guest, 0), second = server_of(*guest, 1);
    EXPECT_NE(first.pid, second.pid);
    EXPECT_FALSE(first.gone());
    EXPECT_FALSE(second.gone());
    bed_.stop(*guest, notes_);
    EXPECT_TRUE(first.gone());
    EXPECT_TRUE(second.gone());
    EXPECT_EQ(notes_.list, (std::vector<std::string>{"ended destroyed"}));
    EXPECT_TRUE(nothing_runs());
}

TEST_F(VirtiofsTest, AGuestReadsAndWritesTheFolder) {
    const auto kernel = tests::newest_kernel();
    if (kernel.empty()) GTEST_SKIP() << "no cloud kernel in /boot (package linux-image-cloud-amd64)";
    ASSERT_EQ(std::system((std::string{std::getenv("VIRTBUS_MAKE_INITRAMFS")} + " " + path("/initrd")).c_str()), 0);
    std::ofstream{path("/shared/from-host")} << "seven\n";
    auto config = sharing();
    config.memory = config.current_memory = 192ULL << 20;
    config.os.kernel = kernel;
    config.os.initrd = path("/initrd");
    config.os.cmdline = "console=ttyS0 quiet no_timer_check";
    config.features.emplace().acpi.emplace();
    config.devices.serials.emplace_back();
    const auto guest = bed_.start(std::move(config), notes_, true);
    tests::Terminal terminal{bed_, *guest};
    bed_.run(guest->resume({}));
    bed_.run_until([&] { return terminal.has("virtbus-guest: ready"); });
    terminal.type(
        "mkdir /mnt; mount -t virtiofs data /mnt; echo host said $(cat /mnt/from-host); echo eight > /mnt/from-guest; "
        "umount /mnt; echo all $((40 + 2))\r");
    bed_.run_until([&] { return terminal.has("all 42"); });
    EXPECT_THAT(terminal.said, HasSubstr("host said seven"));
    bed_.stop(*guest, notes_);
    std::ifstream written{path("/shared/from-guest")};
    EXPECT_EQ((std::string{std::istreambuf_iterator<char>{written}, {}}), "eight\n");
}

TEST_F(VirtiofsTest, GoesWithAGuestThatDiesWhileNoDaemonWatches) {
    auto guest = bed_.start(sharing(), notes_);
    const auto server = server_of(*guest);
    const auto pid = static_cast<pid_t>(guest->pid());
    guest.reset();
    ::kill(pid, SIGKILL);
    EXPECT_TRUE(server.gone(20000));
}

TEST_F(VirtiofsTest, IsTakenUpByALaterDaemonWhichIsToldOfItsDeath) {
    auto guest = bed_.start(sharing(), notes_);
    const auto server = server_of(*guest);
    const auto config = guest->config();
    const auto state = guest->driver_state();
    guest.reset();
    renew();
    EXPECT_FALSE(server.gone());
    Notes later;
    GuestEnd end;
    guest = bed_.run(bed_.driver->adopt(config, state, later, end));
    ASSERT_TRUE(guest);
    EXPECT_EQ(server_of(*guest).pid, server.pid);
    ::kill(server.pid, SIGKILL);
    bed_.run_until([&] { return !later.list.empty() && later.list.back().starts_with("io-error fs0 report"); });
    EXPECT_THAT(later.list.back(), HasSubstr("the file server has ended"));
    bed_.stop(*guest, later);
}

/// The daemon ended when the server ran already and QEMU had no device for it yet.
TEST_F(VirtiofsTest, OneWhoseFolderWasNotPluggedIsEndedByTheNextDaemon) {
    auto guest = bed_.start(sharing(), notes_);
    const auto server = server_of(*guest);
    auto config = guest->config();
    const auto state = guest->driver_state();
    guest.reset();
    renew();
    config.devices.filesystems.clear();
    Notes later;
    GuestEnd end;
    guest = bed_.run(bed_.driver->adopt(config, state, later, end));
    ASSERT_TRUE(guest);
    bed_.run_until([&] { return server.gone(); });
    bed_.run_until([&] { return helpers_of(*guest) == 0; });
    EXPECT_THAT(later.list, testing::Not(testing::Contains(HasSubstr("io-error"))));
    bed_.stop(*guest, later);
}

TEST_F(VirtiofsTest, APlugThatFailsLeavesNoServer) {
    auto config = sharing();
    const auto folder = config.devices.filesystems.front();
    config.devices.filesystems.clear();
    const auto guest = bed_.start(config, notes_);
    const auto refusal_of = [&](const Filesystem& filesystem) {
        try {
            bed_.run(guest->attach({filesystem, nullptr, bed_.resources, false}, {}));
        } catch (const Error& error) {
            return std::string{error.what()};
        }
        return std::string{"it came"};
    };
    auto odd = folder;
    odd.driver->queue = 3;  // no power of two: QEMU says no when the server runs
    EXPECT_THAT(refusal_of(odd), HasSubstr("queue-size"));
    EXPECT_EQ(helpers_of(*guest), 0U);
    describe("/descriptors/50-real.json", path("/gone"));
    EXPECT_THAT(refusal_of(folder), HasSubstr("cannot be run"));
    describe("/descriptors/50-real.json", real_program);
    EXPECT_EQ(refusal_of(folder), "it came");
    EXPECT_EQ(helpers_of(*guest), 1U);
    bed_.stop(*guest, notes_);
    EXPECT_TRUE(nothing_runs());
}

TEST_F(VirtiofsTest, AProgramThatMisbehavesIsToldWithItsLastWords) {
    struct Case {
        const char *script, *words;
    };
    // The guest's listening socket is its descriptor 3.
    const std::string accept = "exec python3 -c 'import socket,time; s=socket.socket(fileno=3); c,_=s.accept(); ";
    for (const auto& [script, words] :
         {std::pair<std::string, const char*>{"echo 'no way today' >&2; exit 3",
                                              "it ended (exit code 3); its last words: no way today"},
          {"echo 'thinking'; sleep 600 & wait", "did not answer within 300 ms; its last words: thinking"},
          {accept + "c.send(b\"I am no back end, whatever you ask\"); time.sleep(600)'",
           "no answer of a vhost-user back end"},
          {accept + "c.close(); time.sleep(600)'", "it ended"},
          {"kill -9 $$", "it ended (killed by signal 9)"}}) {
        stand_in(script);
        // An interpreter takes its time to come up.
        if (script.starts_with("exec")) programs_.times.answer = Duration{10000};
        renew();
        const auto why = refusal(sharing());
        EXPECT_THAT(why, HasSubstr(words));
        EXPECT_THAT(why, HasSubstr("HypervisorFailed: the file server (virtiofsd) of domain 'shares'"));
        EXPECT_TRUE(nothing_runs()) << script;
    }
}

TEST_F(VirtiofsTest, WhatCannotBeSharedIsSaidBeforeAnythingRuns) {
    auto config = sharing();
    config.devices.filesystems[0].source->dir = path("/missing");
    EXPECT_THAT(refusal(config), HasSubstr("No such file"));
    std::ofstream{path("/file")} << "no folder";
    config.devices.filesystems[0].source->dir = path("/file");
    EXPECT_THAT(refusal(config), HasSubstr("is no folder"));
    config = sharing();
    config.memory_backing.reset();
    EXPECT_THAT(refusal(config), HasSubstr("<access mode='shared'/>"));
    EXPECT_TRUE(nothing_runs());
}

TEST_F(VirtiofsTest, OnlyProgramsOfDescriptorsAreRun) {
    auto config = sharing();
    config.devices.filesystems[0].binary.emplace().path = "/bin/true";
    EXPECT_THAT(refusal(config), HasSubstr("its <binary> '/bin/true' is in no descriptor of type 'fs'"));
    // A stronger folder masks, and what is of another type is no file server.
    std::ofstream{path("/stronger/50-real.json")};
    describe("/stronger/60-gpu.json", "/bin/true", "gpu");
    std::ofstream{path("/stronger/70-rubbish.json")} << "{[";
    EXPECT_THAT(refusal(sharing()), HasSubstr("no virtiofsd is installed"));
    describe("/stronger/55-gone.json", path("/gone"));
    EXPECT_THAT(refusal(sharing()), HasSubstr("cannot be run: No such file"));
    auto& files = bed_.host.ports.files;
    describe("/stronger/40-first.json", real_program);
    EXPECT_EQ(qemu::find_virtiofsd(files, programs_.vhost_user_folders, sharing().devices.filesystems[0]),
              real_program);
}

TEST_F(VirtiofsTest, ItsWordsFollowTheDefinition) {
    auto filesystem = sharing().devices.filesystems[0];
    filesystem.source->dir = "/srv/a,b";
    EXPECT_THAT(qemu::virtiofsd_words("/v", filesystem), ElementsAre("/v", "--fd=3", "-o", "source=/srv/a,,b"));
    filesystem.binary.emplace() = {.path = {},
                                   .xattr = true,
                                   .cache_mode = "none",
                                   .sandbox_mode = "namespace",
                                   .lock_posix = true,
                                   .lock_flock = false,
                                   .thread_pool_size = 0,
                                   .openfiles_max = 99,
                                   .unknown = {}};
    EXPECT_THAT(
        qemu::virtiofsd_words("/v", filesystem),
        ElementsAre("/v", "--fd=3", "-o", "source=/srv/a,,b,cache=none,sandbox=namespace,xattr,no_flock,posix_lock",
                    "--thread-pool-size=0", "--rlimit-nofile=99"));
}

}  // namespace
}  // namespace virtbus
