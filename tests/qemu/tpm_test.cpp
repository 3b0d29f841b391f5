// SPDX-License-Identifier: LGPL-2.1-or-later
// TPMs through the real swtpm: seen by a guest, kept from run to run, gone with the guest, taken up by a later daemon;
// and stand-ins for it that misbehave.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "qemu/starter.hpp"
#include "tests/qemu/linux_guest.hpp"

namespace virtbus {
namespace {

using testing::HasSubstr;
using tests::Notes;
using tests::QemuBed;

Tpm emulated(std::string model = "tpm-crb") {
    Tpm tpm;
    tpm.model = std::move(model);
    tpm.backend.type = "emulator";
    return tpm;
}

DomainConfig with(Tpm tpm) {
    auto config = QemuBed::bare("tpm");
    config.devices.tpms.push_back(std::move(tpm));
    return config;
}

class TpmTest : public ::testing::Test {
protected:
    void SetUp() override {
        if (::access("/usr/bin/swtpm", X_OK) != 0) GTEST_SKIP() << "no swtpm (package swtpm)";
    }
    /// A process that can be waited for although it is nobody's child here.
    struct Process {
        pid_t pid = 0;
        Fd pidfd;
        bool gone(int within = 0) const {
            pollfd state{pidfd.get(), POLLIN, 0};
            return ::poll(&state, 1, within) == 1;
        }
    };
    static Process emulator_of(const Guest& guest) {
        const auto record = nlohmann::json::parse(guest.driver_state());
        const auto pid = record.at("helpers").at(0).at("pid").get<pid_t>();
        return {pid, Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))}};
    }
    std::string state_folder() { return bed_.host.ports.folders.state + "/tpm/" + QemuBed::bare().uuid; }
    std::string refusal(DomainConfig config) { return bed_.refusal(std::move(config), notes_); }
    /// A program in swtpm's place.
    void stand_in(const std::string& script) {
        qemu::HelperPrograms programs;
        auto& program = programs.swtpm;
        program.path = bed_.host.folder.path() + "/swtpm";
        std::ofstream{program.path} << "#!/bin/sh\n" << script << '\n';
        ::chmod(program.path.c_str(), 0755);
        program.times.answer = Duration{300};
        program.times.leave = Duration{300};
        bed_.driver = std::make_unique<qemu::QemuDriver>(bed_.host.ports, bed_.times, programs);
    }
    /// Nobody holds a file in the folder of this test any more.
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
};

TEST_F(TpmTest, ComesAndGoesWithItsGuest) {
    const auto guest = bed_.start(with(emulated()), notes_);
    const auto emulator = emulator_of(*guest);
    ASSERT_GT(emulator.pid, 1);
    EXPECT_FALSE(emulator.gone());
    bed_.stop(*guest, notes_);
    EXPECT_TRUE(emulator.gone()) << "whoever hears of the end must not meet it any more";
    EXPECT_EQ(notes_.list, (std::vector<std::string>{"ended destroyed"}));
    struct stat facts{};
    ASSERT_EQ(::stat((state_folder() + "/tpm2/tpm2-00.permall").c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0600U);
}

TEST_F(TpmTest, GoesWithAGuestThatDiesWhileNoDaemonWatches) {
    auto guest = bed_.start(with(emulated()), notes_);
    const auto emulator = emulator_of(*guest);
    const auto config = guest->config();
    const auto state = guest->driver_state();
    const auto pid = static_cast<pid_t>(guest->pid());
    guest.reset();
    const Process qemu{pid, Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))}};
    ::kill(pid, SIGKILL);
    EXPECT_TRUE(qemu.gone(20000));
    EXPECT_TRUE(emulator.gone(20000));
    GuestEnd end;
    EXPECT_EQ(bed_.run(bed_.driver->adopt(config, state, notes_, end)), nullptr);
    EXPECT_EQ(end.reason, "crashed");
}

TEST_F(TpmTest, IsTakenUpByALaterDaemon) {
    auto guest = bed_.start(with(emulated()), notes_);
    const auto emulator = emulator_of(*guest);
    const auto config = guest->config();
    const auto state = guest->driver_state();
    guest.reset();
    bed_.set_times({});
    EXPECT_FALSE(emulator.gone());
    Notes later;
    GuestEnd end;
    guest = bed_.run(bed_.driver->adopt(config, state, later, end));
    ASSERT_TRUE(guest);
    EXPECT_EQ(emulator_of(*guest).pid, emulator.pid);
    ::kill(emulator.pid, SIGKILL);
    bed_.run_until([&] { return !later.list.empty() && later.list.back().starts_with("io-error tpm0 report"); });
    bed_.stop(*guest, later);
}

TEST_F(TpmTest, ItsDeathIsToldAndTheGuestGoesOn) {
    const auto guest = bed_.start(with(emulated()), notes_);
    ::kill(emulator_of(*guest).pid, SIGKILL);
    bed_.run_until([&] { return !notes_.list.empty(); });
    EXPECT_THAT(notes_.list.back(), HasSubstr("io-error tpm0 report the TPM emulator has ended"));
    bed_.run(guest->suspend({}));
    bed_.stop(*guest, notes_);
}

TEST_F(TpmTest, AFailedStartLeavesNothing) {
    auto config = with(emulated());
    config.qemu_commandline.emplace().args = {"-no-such-option"};
    EXPECT_THAT(refusal(config), HasSubstr("no-such-option"));
    EXPECT_FALSE(std::filesystem::exists(state_folder()));
    // State that was there before stays.
    const auto guest = bed_.start(with(emulated()), notes_);
    bed_.stop(*guest, notes_);
    EXPECT_THAT(refusal(config), HasSubstr("no-such-option"));
    EXPECT_TRUE(std::filesystem::exists(state_folder() + "/tpm2/tpm2-00.permall"));
}

TEST_F(TpmTest, AProgramThatMisbehavesIsToldWithItsLastWords) {
    struct Case {
        const char *script, *words;
    };
    for (const auto& [script, words] :
         {Case{"echo 'no way today' >&2; exit 3", "it ended (exit code 3); its last words: no way today"},
          Case{"echo 'thinking'; sleep 600 & wait", "did not answer within 300 ms; its last words: thinking"},
          Case{"echo 'I am no TPM at all, whatever you ask' >&3; sleep 600 & wait",
               "answered set-data-fd with the error"},
          Case{"cat /dev/zero >&3", "did not answer within"}, Case{"kill -9 $$", "it ended (killed by signal 9)"}}) {
        stand_in(script);
        const auto why = refusal(with(emulated()));
        EXPECT_THAT(why, HasSubstr(words));
        EXPECT_THAT(why, HasSubstr("HypervisorFailed"));
        EXPECT_FALSE(std::filesystem::exists(state_folder())) << script;
        EXPECT_TRUE(nothing_runs()) << script;
    }
    stand_in("true");
    std::filesystem::remove(bed_.host.folder.path() + "/swtpm");
    EXPECT_THAT(refusal(with(emulated())), HasSubstr("package swtpm"));
}

TEST_F(TpmTest, WhatASwtpmSaysToTheSecondStartIsCheckedToo) {
    // With state there, nothing is set up and only the greeting is left to go wrong.
    auto guest = bed_.start(with(emulated()), notes_);
    bed_.stop(*guest, notes_);
    stand_in("printf 'rubbish rubbish' >&3; sleep 600 & wait");
    EXPECT_THAT(refusal(with(emulated())), HasSubstr("no answer of a TPM emulator"));
    EXPECT_TRUE(std::filesystem::exists(state_folder() + "/tpm2/tpm2-00.permall"));
    EXPECT_TRUE(nothing_runs());
}

TEST_F(TpmTest, IsEncryptedWhereASecretIsNamed) {
    auto config = with(emulated());
    config.devices.tpms[0].backend.encryption_secret = "6dd3e4a5-1d76-44ce-961f-f119f5aad935";
    bed_.resources.password = "correct horse";
    auto guest = bed_.start(config, notes_);
    bed_.stop(*guest, notes_);
    notes_ = {};
    guest = bed_.start(config, notes_);
    bed_.stop(*guest, notes_);
    bed_.resources.password = "battery staple";
    EXPECT_THAT(refusal(config), HasSubstr("HypervisorFailed"));
}

TEST_F(TpmTest, OldTpmsAndForeignEmulatorsServeToo) {
    auto old = emulated("tpm-tis");
    old.backend.version = "1.2";
    auto guest = bed_.start(with(old), notes_);
    EXPECT_TRUE(std::filesystem::exists(state_folder() + "/tpm1.2/tpm-00.permall"));
    bed_.stop(*guest, notes_);

    const auto socket = bed_.host.folder.path() + "/foreign.sock";
    const auto folder = bed_.host.folder.path() + "/foreign";
    std::filesystem::create_directory(folder);
    const auto listening = qemu::listen_at(socket);
    const pid_t foreign = ::fork();
    if (foreign == 0) {
        ::dup2(listening.get(), 9);
        ::execl("/usr/bin/swtpm", "swtpm", "socket", "--tpm2", "--tpmstate", ("dir=" + folder).c_str(), "--ctrl",
                "type=unixio,fd=9", "--terminate", nullptr);
        ::_exit(1);
    }
    auto external = emulated();
    external.backend.type = "external";
    external.backend.source.emplace() = {.type = "unix", .mode = "connect", .path = socket, .unknown = {}};
    notes_ = {};
    guest = bed_.start(with(external), notes_);
    bed_.stop(*guest, notes_);
    int status = -1;
    EXPECT_EQ(::waitpid(foreign, &status, 0), foreign);
    EXPECT_EQ(status, 0) << "it leaves with its guest";
}

TEST_F(TpmTest, ItsStateMayBeOneFile) {
    const auto file = bed_.host.folder.path() + "/tpm.state";
    auto tpm = emulated();
    tpm.backend.source.emplace() = {.type = "file", .mode = {}, .path = file, .unknown = {}};
    EXPECT_THAT(refusal(with(tpm)), HasSubstr("make an empty file"));
    std::ofstream{file};
    auto guest = bed_.start(with(tpm), notes_);
    bed_.stop(*guest, notes_);
    std::ifstream in{file};
    const std::string first{std::istreambuf_iterator<char>{in}, {}};
    EXPECT_GT(first.size(), 1000U);
    EXPECT_FALSE(std::filesystem::exists(state_folder()));
    notes_ = {};
    guest = bed_.start(with(tpm), notes_);
    const auto emulator = emulator_of(*guest);
    bed_.stop(*guest, notes_);
    EXPECT_TRUE(emulator.gone());
    // It would take anything for a disk that wants to be formatted.
    std::ofstream{file} << "this is the state of no TPM at all, whatever it is called";
    EXPECT_THAT(refusal(with(tpm)), HasSubstr("is no state of the TPM emulator"));
    std::string kept;
    EXPECT_TRUE(std::getline(std::ifstream{file}, kept));
    EXPECT_THAT(kept, HasSubstr("whatever it is called"));
}

TEST_F(TpmTest, TheGuestFindsItAndItsStateOutlivesTheRun) {
    const auto kernel = tests::newest_kernel();
    if (kernel.empty()) GTEST_SKIP() << "no cloud kernel in /boot (package linux-image-cloud-amd64)";
    const auto initrd = bed_.host.folder.path() + "/initrd";
    ASSERT_EQ(std::system((std::string{std::getenv("VIRTBUS_MAKE_INITRAMFS")} + " " + initrd).c_str()), 0);
    // How often it has been switched on is in the answer to ReadClock, after a header of 10 and two times of 8 bytes.
    const auto count_starts = [&](std::string model) {
        auto config = with(emulated(std::move(model)));
        config.memory = config.current_memory = 192ULL << 20;
        config.os.kernel = kernel;
        config.os.initrd = initrd;
        config.os.cmdline = "console=ttyS0 quiet no_timer_check";
        config.features.emplace().acpi.emplace();
        config.devices.serials.emplace_back();
        notes_ = {};
        const auto guest = bed_.start(std::move(config), notes_, true);
        tests::Terminal terminal{bed_, *guest};
        bed_.run(guest->resume({}));
        bed_.run_until([&] { return terminal.has("virtbus-guest: ready"); });
        terminal.type(
            "exec 4<>/dev/tpm0; printf '\\200\\001\\000\\000\\000\\012\\000\\000\\001\\201' > /tmp/c; cat /tmp/c >&4; "
            "echo banks $(ls /sys/class/tpm/tpm0 | grep pcr-) starts $(dd bs=64 count=1 <&4 2>/dev/null | "
            "dd bs=1 skip=26 count=4 2>/dev/null | od -An -tx1 | tr -d ' ') done\r");
        bed_.run_until([&] {
            return terminal.said.find("done", terminal.said.rfind("banks ")) != terminal.said.npos &&
                   terminal.said.rfind("starts 0") != terminal.said.npos;
        });
        const auto banks = terminal.said.rfind("banks "), starts = terminal.said.rfind("starts ");
        EXPECT_EQ(terminal.said.substr(banks, starts - banks), "banks pcr-sha256 ");
        bed_.stop(*guest, notes_);
        return std::stoul(terminal.said.substr(starts + 7, 8), nullptr, 16);
    };
    const auto first = count_starts("tpm-crb");
    EXPECT_EQ(count_starts("tpm-tis"), first + 1);
    std::filesystem::remove_all(state_folder());
    EXPECT_EQ(count_starts("tpm-tis"), first);
}

}  // namespace
}  // namespace virtbus
