// SPDX-License-Identifier: LGPL-2.1-or-later
#include "systemd/plain_units.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <array>
#include <fstream>

#include "service/host/loop.hpp"
#include "systemd/process.hpp"
#include "virtbus/error.hpp"

namespace virtbus::systemd {
namespace {

constexpr Duration patience{20'000};

struct PlainUnitsTest : testing::Test {
    /// Runs the task to its end.
    template <class T>
    T wait(Task<T> task) {
        std::optional<T> result;
        std::exception_ptr error;
        scope.spawn(keep(std::move(task), result, error));
        EXPECT_TRUE(loop.run_until([&] { return result || error; }, patience));
        if (error) std::rethrow_exception(error);
        return std::move(*result);
    }
    template <class T>
    static Task<> keep(Task<T> task, std::optional<T>& result, std::exception_ptr& error) {
        try {
            result.emplace(co_await task);
        } catch (...) {
            error = std::current_exception();
        }
    }

    static UnitRequest shell(const std::string& script) {
        UnitRequest request;
        request.driver = "test";
        request.id = 1;
        request.name = "shell";
        request.argv = {"/bin/sh", "-c", script};
        return request;
    }
    Unit start(UnitRequest request) { return wait(units.start(std::move(request), in(patience), {})); }
    ExitStatus status(const Unit& unit) { return wait(units.exit_status(unit.name, unit.pid, in(patience))); }

    host::MainLoop loop;
    PlainUnits units{loop, LAUNCHER, std::nullopt};
    Scope scope;
};

TEST_F(PlainUnitsTest, RunsAProgramAndKnowsHowItEnded) {
    const Fd output{::memfd_create("output", MFD_CLOEXEC)};
    auto request = shell("echo \"$GREETING\"; exit 3");
    request.environment["GREETING"] = "hello";
    request.output = output.get();
    const auto unit = start(std::move(request));
    EXPECT_GT(unit.pid, 1u);
    EXPECT_EQ(unit.name, "");
    const auto end = status(unit);
    EXPECT_TRUE(end.known);
    EXPECT_EQ(end.code, 3);
    EXPECT_EQ(end.signal, 0);
    std::array<char, 64> text{};
    EXPECT_EQ(::pread(output.get(), text.data(), text.size(), 0), 6);
    EXPECT_STREQ(text.data(), "hello\n");
}

TEST_F(PlainUnitsTest, AServiceOfTheHostGetsItsFoldersAndChangesItsUserItself) {
    if (::geteuid() != 0) GTEST_SKIP() << "another user's folder needs root";
    char folder[] = "/tmp/virtbus-service-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    auto request = shell("exit $(id -u)");
    request.account = "daemon";
    request.writable = {folder};
    PlainUnits with_guests{loop, LAUNCHER, Account{65534, 65534, {}}};
    const auto unit = wait(with_guests.start(std::move(request), in(patience), {}));
    EXPECT_EQ(status(unit).code, 0) << "it begins as root";
    struct stat facts{};
    ASSERT_EQ(::stat(folder, &facts), 0);
    EXPECT_EQ(facts.st_uid, find_account("daemon")->uid);
    ::rmdir(folder);
}

TEST_F(PlainUnitsTest, KillEndsTheWholeGroup) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const Fd reading{ends[0]};
    Fd writing{ends[1]};
    auto request = shell("sleep 1000 & echo; wait");
    request.output = writing.get();
    const auto unit = start(std::move(request));
    writing = Fd{};
    char byte = 0;
    ASSERT_EQ(::read(reading.get(), &byte, 1), 1);
    units.kill(unit, false);
    EXPECT_EQ(status(unit).signal, SIGKILL);
    EXPECT_EQ(::read(reading.get(), &byte, 1), 0);  // the sleep had it open, too
}

TEST_F(PlainUnitsTest, GracefulIsATerm) {
    const auto unit = start(shell("exec sleep 1000"));
    units.kill(unit, true);
    EXPECT_EQ(status(unit).signal, SIGTERM);
}

TEST_F(PlainUnitsTest, AFailedExecIsAnErrorAndLeavesNoZombie) {
    UnitRequest request;
    request.argv = {"/nowhere/emulator"};
    try {
        start(request);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::hypervisor_failed);
        EXPECT_STREQ(error.what(), "Running /nowhere/emulator failed: No such file or directory");
    }
    EXPECT_TRUE(loop.run_until([] { return ::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD; }, patience));
}

TEST_F(PlainUnitsTest, AStoppedStartIsCancelled) {
    std::stop_source stop;
    stop.request_stop();
    EXPECT_THROW(wait(units.start(shell("exec sleep 1000"), in(patience), stop.get_token())), Cancelled);
    EXPECT_TRUE(loop.run_until([] { return ::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD; }, patience));
}

TEST_F(PlainUnitsTest, AMissingLauncherIsAnError) {
    PlainUnits broken{loop, "/nowhere/virtbus-launch", std::nullopt};
    EXPECT_THROW(wait(broken.start(shell("true"), in(patience), {})), Error);
}

std::uint64_t start_time(std::uint32_t pid) {
    std::ifstream file{"/proc/" + std::to_string(pid) + "/stat"};
    std::string text{std::istreambuf_iterator<char>{file}, {}};
    std::istringstream rest{text.substr(text.rfind(')') + 2)};
    std::string word;
    for (int field = 3; field <= 22; ++field) rest >> word;
    return std::stoull(word);
}

TEST_F(PlainUnitsTest, AdoptsOnlyTheSameProcess) {
    const auto unit = start(shell("exec sleep 1000"));
    const auto time = start_time(unit.pid);
    const auto again = units.adopt(unit.pid, time, "");
    ASSERT_TRUE(again);
    EXPECT_EQ(again->pid, unit.pid);
    EXPECT_FALSE(units.adopt(unit.pid, time + 1, ""));
    EXPECT_FALSE(units.adopt(0, time, ""));
    units.kill(*again, false);
    pollfd gone{again->pidfd.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&gone, 1, -1), 1);
    EXPECT_FALSE(units.adopt(unit.pid, time, "")) << "a zombie is no guest";
    EXPECT_EQ(status(unit).signal, SIGKILL);
    EXPECT_FALSE(status(unit).known) << "asked twice";
}

TEST_F(PlainUnitsTest, SurvivesTheDaemonsTerminal) {
    const auto unit = start(shell("exec sleep 1000"));
    EXPECT_EQ(::getsid(static_cast<pid_t>(unit.pid)), static_cast<pid_t>(unit.pid));
    units.kill(unit, false);
    status(unit);
}

TEST(Accounts, RootIsFoundAndNobodyElseInvented) {
    const auto root = find_account("root");
    ASSERT_TRUE(root);
    EXPECT_EQ(root->uid, 0u);
    EXPECT_FALSE(find_account("no-such-user-here"));
}

}  // namespace
}  // namespace virtbus::systemd
