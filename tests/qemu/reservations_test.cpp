// SPDX-License-Identifier: LGPL-2.1-or-later
// Managed persistent reservations: the real qemu-pr-helper comes and goes with its guest, which is connected to it.
// That it reserves anything is not seen: no SCSI disk is at hand.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/qemu/qemu_bed.hpp"

namespace virtbus {
namespace {

using testing::HasSubstr;
using tests::Notes;
using tests::QemuBed;

class ReservationsTest : public ::testing::Test {
protected:
    void SetUp() override {
        if (::access(programs_.pr_helper.c_str(), X_OK) != 0) GTEST_SKIP() << "no qemu-pr-helper";
        if (::geteuid() != 0) GTEST_SKIP() << "it needs root";
    }
    std::string path(const std::string& name) const { return bed_.host.folder.path() + name; }
    /// A file stands where a block device would; QEMU makes its connection all the same.
    Disk disk_at(const std::string& name) const {
        std::ofstream{path("/" + name)} << std::string(1 << 20, 'x');
        Disk disk;
        disk.type = StorageType::block;
        disk.target.dev = name;
        disk.target.bus = "scsi";
        disk.driver.emplace().type = "raw";
        disk.source.emplace().dev = path("/" + name);
        disk.source->reservations.emplace().managed = true;
        disk.backing_store.emplace_back();
        return disk;
    }
    DomainConfig reserving() const {
        auto config = QemuBed::bare("reserves");
        for (const char* name : {"sda", "sdb"}) {
            config.devices.disks.push_back(disk_at(name));
        }
        return config;
    }
    static Fd helper_of(const Guest& guest) {
        const auto record = nlohmann::json::parse(guest.driver_state());
        const auto pid = record.at("helpers").at(0).at("pid").get<pid_t>();
        return Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
    }
    static bool gone(const Fd& process, int within = 0) {
        pollfd state{process.get(), POLLIN, 0};
        return ::poll(&state, 1, within) == 1;
    }
    std::string refusal() {
        try {
            const auto guest = bed_.start(reserving(), notes_);
            bed_.stop(*guest, notes_);
        } catch (const Error& error) {
            return error.what();
        }
        return "it started";
    }
    void stand_in(const std::string& script) {
        programs_.pr_helper = path("/helper");
        std::ofstream{path("/helper")} << "#!/bin/sh\n" << script << '\n';
        ::chmod(path("/helper").c_str(), 0755);
        programs_.times.answer = Duration{300};
        bed_.driver = std::make_unique<qemu::QemuDriver>(bed_.host.ports, bed_.times, programs_);
    }

    QemuBed bed_;
    Notes notes_;
    qemu::HelperPrograms programs_;
};

TEST_F(ReservationsTest, OneHelperServesAllDisksAndGoesWithTheGuest) {
    const auto guest = bed_.start(reserving(), notes_);
    const auto helper = helper_of(*guest);
    EXPECT_EQ(nlohmann::json::parse(guest->driver_state()).at("helpers").size(), 1U);
    EXPECT_FALSE(gone(helper));
    // QEMU made its connection at the start, or would not have started.
    bed_.stop(*guest, notes_);
    EXPECT_TRUE(gone(helper));
    EXPECT_EQ(notes_.list, (std::vector<std::string>{"ended destroyed"}));
}

TEST_F(ReservationsTest, ADiskThatIsPluggedUsesTheOneThatRuns) {
    const auto guest = bed_.start(reserving(), notes_);
    const auto attach = [&] { bed_.run(guest->attach({disk_at("sdc"), nullptr, bed_.resources, false}, {})); };
    for (int round = 0; round < 2; ++round) {
        attach();
        ASSERT_EQ(guest->config().devices.disks.size(), 3U);
        bed_.run(guest->detach(guest->config().devices.disks[2].info.alias, false, {}));
        EXPECT_EQ(guest->config().devices.disks.size(), 2U);
    }
    EXPECT_EQ(nlohmann::json::parse(guest->driver_state()).at("helpers").size(), 1U);
    ::syscall(SYS_pidfd_send_signal, helper_of(*guest).get(), SIGKILL, nullptr, 0);
    bed_.run_until([&] { return nlohmann::json::parse(guest->driver_state()).at("helpers").empty(); });
    try {
        attach();
        ADD_FAILURE() << "nobody serves it";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("managed='no'"));
    }
    bed_.stop(*guest, notes_);
}

TEST_F(ReservationsTest, IsEndedByTheNextDaemonWhenItsGuestDiedMeanwhile) {
    auto guest = bed_.start(reserving(), notes_);
    const auto helper = helper_of(*guest);
    const auto config = guest->config();
    const auto state = guest->driver_state();
    const auto pid = static_cast<pid_t>(guest->pid());
    guest.reset();
    ::kill(pid, SIGKILL);
    ASSERT_TRUE(gone(bed_.pidfd(), 20000));
    GuestEnd end;
    EXPECT_EQ(bed_.run(bed_.driver->adopt(config, state, notes_, end)), nullptr);
    EXPECT_TRUE(gone(helper));
}

TEST_F(ReservationsTest, ItsDeathIsTold) {
    const auto guest = bed_.start(reserving(), notes_);
    ::syscall(SYS_pidfd_send_signal, helper_of(*guest).get(), SIGKILL, nullptr, 0);
    bed_.run_until([&] { return !notes_.list.empty(); });
    EXPECT_THAT(notes_.list.back(), HasSubstr("report the reservation helper has ended"));
    bed_.stop(*guest, notes_);
}

TEST_F(ReservationsTest, AProgramThatMisbehavesIsToldWithItsLastWords) {
    stand_in("echo 'no way today' >&2; exit 3");
    EXPECT_THAT(refusal(), HasSubstr("it ended (exit code 3); its last words: no way today"));
    stand_in("sleep 600 & wait");
    EXPECT_THAT(refusal(), HasSubstr("did not answer within 300 ms"));
    std::filesystem::remove(path("/helper"));
    EXPECT_THAT(refusal(), HasSubstr("disk 'sda': the reservation helper"));
}

}  // namespace
}  // namespace virtbus
