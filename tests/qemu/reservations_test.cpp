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

#include "qemu/opening.hpp"
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
    static std::size_t count_helpers(const Guest& guest) {
        return nlohmann::json::parse(guest.driver_state()).at("helpers").size();
    }
    static void kill(const Guest& guest) {
        ::syscall(SYS_pidfd_send_signal, helper_of(guest).get(), SIGKILL, nullptr, 0);
    }
    void kill_and_wait_for_another(const Guest& guest) {
        const auto dead = helper_of(guest);
        kill(guest);
        ASSERT_TRUE(gone(dead, 20000));
        bed_.run_until([&] { return count_helpers(guest) == 1 && !gone(helper_of(guest)); });
    }
    static Fd connect_to(const Guest& guest) {
        const auto folder = nlohmann::json::parse(guest.driver_state()).at("folder").get<std::string>();
        return qemu::connect_to(folder + "/guest/pr-helper0.sock");
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
    kill_and_wait_for_another(*guest);
    attach();
    EXPECT_EQ(guest->config().devices.disks.size(), 3U);
    bed_.stop(*guest, notes_);
}

TEST_F(ReservationsTest, ComesWithTheFirstDiskThatIsPluggedAndGoesWithTheLast) {
    auto config = QemuBed::bare("reserves");
    auto& controller = config.devices.controllers.emplace_back();
    controller.type = ControllerType::scsi;
    controller.model = "virtio-scsi";
    const auto guest = bed_.start(std::move(config), notes_);
    const auto attach = [&](const char* name) {
        bed_.run(guest->attach({disk_at(name), nullptr, bed_.resources, false}, {}));
    };
    const auto detach_first = [&] { bed_.run(guest->detach(guest->config().devices.disks[0].info.alias, false, {})); };
    attach("sda");
    const auto helper = helper_of(*guest);
    attach("sdb");
    EXPECT_EQ(count_helpers(*guest), 1U);
    detach_first();
    EXPECT_FALSE(gone(helper)) << "the second needs it";
    kill_and_wait_for_another(*guest);
    detach_first();
    EXPECT_EQ(count_helpers(*guest), 0U);
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

// QEMU connects to the same socket again; that it does is not seen here.
TEST_F(ReservationsTest, IsStartedAgainButNotForEver) {
    const auto guest = bed_.start(reserving(), notes_);
    for (int round = 0; round < 3; ++round) kill_and_wait_for_another(*guest);
    EXPECT_TRUE(notes_.list.empty()) << notes_.list.back();
    EXPECT_TRUE(connect_to(*guest));
    kill(*guest);
    bed_.run_until([&] { return !notes_.list.empty(); });
    EXPECT_THAT(notes_.list.back(), HasSubstr("report the reservation helper has ended"));
    EXPECT_THAT(notes_.list.back(), HasSubstr("again and again"));
    EXPECT_EQ(count_helpers(*guest), 0U);
    bed_.stop(*guest, notes_);
}

TEST_F(ReservationsTest, OneThatCannotBeStartedAgainIsTold) {
    std::filesystem::copy_file(programs_.pr_helper, path("/helper"));
    programs_.pr_helper = path("/helper");
    bed_.driver = std::make_unique<qemu::QemuDriver>(bed_.host.ports, bed_.times, programs_);
    const auto guest = bed_.start(reserving(), notes_);
    std::filesystem::remove(path("/helper"));
    kill(*guest);
    bed_.run_until([&] { return !notes_.list.empty(); });
    EXPECT_THAT(notes_.list.back(), HasSubstr("it could not be started again"));
    bed_.stop(*guest, notes_);
}

TEST_F(ReservationsTest, OneThatDiedWhileNoDaemonWatchedIsStartedByTheNext) {
    auto guest = bed_.start(reserving(), notes_);
    const auto config = guest->config();
    const auto state = guest->driver_state();
    const auto helper = helper_of(*guest);
    guest.reset();
    ::syscall(SYS_pidfd_send_signal, helper.get(), SIGKILL, nullptr, 0);
    ASSERT_TRUE(gone(helper, 20000));
    GuestEnd end;
    guest = bed_.run(bed_.driver->adopt(config, state, notes_, end));
    ASSERT_TRUE(guest);
    bed_.run_until([&] { return count_helpers(*guest) == 1 && !gone(helper_of(*guest)); });
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
