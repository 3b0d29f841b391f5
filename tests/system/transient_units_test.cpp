// SPDX-License-Identifier: LGPL-2.1-or-later
// Guests as transient services of a real systemd. Runs only in the throwaway container.
#include "systemd/transient_units.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sdbus-c++/sdbus-c++.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>

#include "service/host/loop.hpp"
#include "service/host/workers.hpp"
#include "systemd/choose_units.hpp"
#include "systemd/manager_bus.hpp"
#include "systemd/plain_units.hpp"
#include "tests/support/run.hpp"
#include "virtbus/error.hpp"

namespace virtbus::systemd {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct CollectedLog final : Log {
    void write(Priority, std::string_view message, const Fields&) override { text += std::string{message} + "\n"; }
    std::string text;
};

std::string content(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream{path}.rdbuf();
    return text.str();
}

std::string output_of(const std::string& command) {
    std::string text;
    auto* pipe = ::popen(command.c_str(), "re");
    for (int c = 0; pipe && (c = std::fgetc(pipe)) != EOF;) text += static_cast<char>(c);
    if (pipe) ::pclose(pipe);
    return text;
}

struct TransientUnitsTest : ::testing::Test {
    TransientUnitsTest() : units{make(LAUNCHER)} {}

    std::unique_ptr<Units> make(const std::string& launcher) {
        return std::make_unique<TransientUnits>(
            loop, std::make_unique<ManagerBus>(loop, sdbus::createSystemBusConnection()),
            TransientUnits::Options{launcher, Account{65534, 65534, {65534}}, true});
    }
    UnitRequest shell(const std::string& script) {
        static std::uint32_t id = 0;
        UnitRequest request;
        request.driver = "test";
        request.id = ++id;
        request.name = "a guest";
        request.uuid = "6e1c0ab0-52e2-4a61-b0a3-2c6b1d1c1f00";
        request.argv = {"/bin/sh", "-c", script};
        return request;
    }
    Unit start(UnitRequest request) {
        return tests::run(loop, units->start(std::move(request), in(tests::patience), {}));
    }
    ExitStatus status(const Unit& unit) {
        pollfd end{unit.pidfd.get(), POLLIN, 0};
        ::poll(&end, 1, -1);
        return tests::run(loop, units->exit_status(unit.name, unit.pid, in(tests::patience)));
    }
    /// True once the manager has forgotten the unit.
    bool forgotten(const std::string& unit) {
        for (int tries = 0; tries < 2000; ++tries) {
            const auto state = output_of("systemctl show -P LoadState -- '" + unit + "'");
            if (state == "not-found\n") return true;
            loop.run_until([] { return false; }, Duration{5});
        }
        return false;
    }
    std::string refusal(UnitRequest request) {
        try {
            units->kill(start(std::move(request)), false);
        } catch (const Error& error) {
            code = error.code();
            return error.what();
        }
        return "it started";
    }

    host::MainLoop loop;
    std::unique_ptr<Units> units;
    Code code{};
};

TEST_F(TransientUnitsTest, AreChosenWhereAManagerAnswers) {
    host::ThreadPool workers{loop, 2};
    CollectedLog log;
    const auto chosen = tests::run(loop, choose_units(loop, workers, log, {true, LAUNCHER}, in(tests::patience)));
    EXPECT_TRUE(dynamic_cast<TransientUnits*>(chosen.get()));
    const auto plain =
        tests::run(loop, choose_units(loop, workers, log, {true, LAUNCHER, "", false}, in(tests::patience)));
    EXPECT_TRUE(dynamic_cast<PlainUnits*>(plain.get()));
}

TEST_F(TransientUnitsTest, AGuestIsNotRootAndInAUnitOfItsOwn) {
    auto request = shell("");
    request.argv = {"/bin/sleep", "1000"};
    const auto unit = start(std::move(request));
    const auto proc = "/proc/" + std::to_string(unit.pid);
    EXPECT_THAT(unit.name, HasSubstr("virtbus-test-"));
    EXPECT_THAT(content(proc + "/cgroup"), HasSubstr("machine.slice/" + unit.name));
    const auto facts = content(proc + "/status");
    EXPECT_THAT(facts, HasSubstr("Uid:\t65534\t65534\t65534\t65534"));
    EXPECT_THAT(facts, HasSubstr("CapBnd:\t0000000000000000"));
    EXPECT_THAT(facts, HasSubstr("NoNewPrivs:\t1"));
    EXPECT_EQ(content(proc + "/comm"), "sleep\n") << "start returns when the program itself runs";
    units->kill(unit, false);
    EXPECT_EQ(status(unit).signal, SIGKILL);
    EXPECT_TRUE(forgotten(unit.name));
}

TEST_F(TransientUnitsTest, AServiceOfTheHostKeepsItsCapabilitiesWithoutRoot) {
    auto request = shell("");
    request.driver = "network";
    request.argv = {"/bin/sleep", "1000"};
    request.account = "daemon";
    request.capabilities = 0x3400;  // NET_BIND_SERVICE, NET_ADMIN, NET_RAW
    request.network = true;
    const auto machine = machine_name(request);
    const auto unit = start(std::move(request));
    const auto proc = "/proc/" + std::to_string(unit.pid);
    EXPECT_THAT(content(proc + "/cgroup"), HasSubstr("system.slice/" + unit.name));
    const auto facts = content(proc + "/status");
    EXPECT_THAT(facts, Not(HasSubstr("Uid:\t0")));
    EXPECT_THAT(facts, HasSubstr("CapEff:\t0000000000003400"));
    EXPECT_THAT(facts, HasSubstr("CapBnd:\t0000000000003400"));
    EXPECT_THAT(output_of("machinectl list --no-legend --no-pager"), Not(HasSubstr(machine)));
    units->kill(unit, false);
    EXPECT_EQ(status(unit).signal, SIGKILL);
}

TEST_F(TransientUnitsTest, TheSandboxHolds) {
    const Fd output{::memfd_create("output", MFD_CLOEXEC)};
    auto request = shell("touch /etc/x /var/lib/x /tmp/sandboxed; ls /home /root; cat /dev/kmsg; ls /tmp; exit 0");
    request.output = output.get();
    const auto unit = start(std::move(request));
    EXPECT_TRUE(status(unit).known);
    std::array<char, 65536> text{};
    ASSERT_GT(::pread(output.get(), text.data(), text.size() - 1, 0), 0);
    EXPECT_THAT(text.data(), HasSubstr("/etc/x': Read-only file system"));
    EXPECT_THAT(text.data(), HasSubstr("/var/lib/x': Read-only file system"));
    EXPECT_THAT(text.data(), HasSubstr("\nsandboxed\n"));
    struct stat info{};
    EXPECT_LT(::stat("/tmp/sandboxed", &info), 0) << "its /tmp is its own";
}

// Whether the kernel keeps to it is not seen here: containers have no control group for devices.
TEST_F(TransientUnitsTest, DevicesAreAllowedAndDeniedWhileItRuns) {
    auto request = shell("");
    request.argv = {"/bin/sleep", "1000"};
    request.devices = {"/dev/first"};
    const auto unit = start(std::move(request));
    const auto allowed = [&] { return output_of("systemctl show -P DeviceAllow -- '" + unit.name + "'"); };
    const auto change = [&](bool more, UnitGrant grant) {
        tests::run(loop, more ? units->allow(unit.name, unit.pid, std::move(grant), in(tests::patience))
                              : units->deny(unit.name, std::move(grant), in(tests::patience)));
    };
    const auto at_start = allowed();
    EXPECT_THAT(at_start, HasSubstr("/dev/first"));
    EXPECT_THAT(output_of("systemctl show -P DevicePolicy -- '" + unit.name + "'"), HasSubstr("closed"));
    change(true, {{"/dev/second", "/dev/third"}, {}, 0});
    for (const auto* each : {"/dev/first", "/dev/second", "/dev/third"}) EXPECT_THAT(allowed(), HasSubstr(each));
    units = make(LAUNCHER);  // another connection, as after a restart
    change(false, {{"/dev/second"}, {}, 0});
    EXPECT_THAT(allowed(), Not(HasSubstr("/dev/second")));
    EXPECT_THAT(allowed(), HasSubstr("/dev/third"));
    change(false, {{"/dev/third", "/dev/second"}, {}, 0});
    EXPECT_EQ(allowed(), at_start);
    change(false, {{"/dev/first"}, {}, 0});
    EXPECT_EQ(allowed(), "");
    units->kill(unit, false);
    status(unit);
    EXPECT_THROW(change(true, {{"/dev/second"}, {}, 0}), Error) << "it has gone";
}

TEST_F(TransientUnitsTest, MemoryMayBeLockedWhereWeMaySaySo) {
    auto request = shell("");
    request.argv = {"/bin/sleep", "1000"};
    const auto unit = start(std::move(request));
    const auto limits = [&] { return content("/proc/" + std::to_string(unit.pid) + "/limits"); };
    constexpr std::uint64_t much = 1ULL << 40;
    rlimit ours{much, much};
    const bool may = ::setrlimit(RLIMIT_MEMLOCK, &ours) == 0;  // CAP_SYS_RESOURCE, which not every container has
    std::string refusal;
    try {
        tests::run(loop, units->allow(unit.name, unit.pid, {{}, {}, much}, in(tests::patience)));
    } catch (const Error& error) {
        refusal = error.what();
    }
    if (may)
        EXPECT_THAT(limits(), HasSubstr(std::to_string(much)));
    else
        EXPECT_THAT(refusal, HasSubstr("bytes of locked memory"));
    tests::run(loop, units->allow(unit.name, unit.pid, {{}, {}, 4096}, in(tests::patience)));
    units->kill(unit, false);
    status(unit);
}

TEST_F(TransientUnitsTest, NodesBecomeTheMachinesAndOursAgain) {
    auto request = shell("");
    request.argv = {"/bin/sleep", "1000"};
    const auto unit = start(std::move(request));
    const std::string node = "/dev/virtbus-test-node";
    ASSERT_EQ(::mknod(node.c_str(), S_IFCHR | 0600, makedev(1, 3)), 0);
    const auto owner = [&] {
        struct stat info{};
        ::stat(node.c_str(), &info);
        return info.st_uid;
    };
    tests::run(loop, units->allow(unit.name, unit.pid, {{node}, {node}, 0}, in(tests::patience)));
    EXPECT_EQ(owner(), 65534U);
    tests::run(loop, units->deny(unit.name, {{node}, {node}, 0}, in(tests::patience)));
    EXPECT_EQ(owner(), 0U);
    ::chown(node.c_str(), 1, 1);
    tests::run(loop, units->deny(unit.name, {{node}, {node}, 0}, in(tests::patience)));
    EXPECT_EQ(owner(), 1U) << "somebody else's is left alone";
    units->kill(unit, false);
    status(unit);
}

TEST_F(TransientUnitsTest, DescriptorsAndOutputArrive) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const Fd reading{ends[0]};
    ASSERT_EQ(::write(ends[1], "through the unit", 16), 16);
    ::close(ends[1]);
    const Fd output{::memfd_create("output", MFD_CLOEXEC)};
    auto request = shell("cat <&7");
    request.fds = {{reading.get(), 7}};
    request.output = output.get();
    status(start(std::move(request)));
    std::array<char, 64> text{};
    EXPECT_EQ(::pread(output.get(), text.data(), text.size(), 0), 16);
    EXPECT_STREQ(text.data(), "through the unit");
}

TEST_F(TransientUnitsTest, EachKindOfEndIsKnownAlsoToALaterDaemon) {
    const auto clean = start(shell("exit 0"));
    const auto failed = start(shell("exit 7"));
    const auto killed = start(shell("kill -SEGV $$"));
    for (const auto* unit : {&clean, &failed, &killed}) {
        pollfd end{unit->pidfd.get(), POLLIN, 0};
        ::poll(&end, 1, -1);
    }
    units = make(LAUNCHER);  // another connection, as after a restart
    auto end = status(clean);
    EXPECT_TRUE(end.known);
    EXPECT_EQ(end.code, 0);
    EXPECT_EQ(end.signal, 0);
    end = status(failed);
    EXPECT_TRUE(end.known);
    EXPECT_EQ(end.code, 7);
    EXPECT_EQ(status(killed).signal, SIGSEGV);
    for (const auto* unit : {&clean, &failed, &killed}) EXPECT_TRUE(forgotten(unit->name)) << unit->name;
    EXPECT_FALSE(status(clean).known) << "asked twice";
}

TEST_F(TransientUnitsTest, AFailedExecSaysWhy) {
    auto request = shell("");
    request.argv = {"/nowhere/emulator"};
    const auto unit = unit_name(request);
    EXPECT_EQ(refusal(request), "Running /nowhere/emulator failed: No such file or directory");
    EXPECT_EQ(code, Code::hypervisor_failed);
    EXPECT_TRUE(forgotten(unit));
}

TEST_F(TransientUnitsTest, AUnitThatCannotStartSaysSo) {
    units = make("/nowhere/virtbus-launch");
    const auto request = shell("exit 0");
    const auto unit = unit_name(request);
    EXPECT_THAT(refusal(request), HasSubstr(unit));
    EXPECT_EQ(code, Code::hypervisor_failed);
    EXPECT_TRUE(forgotten(unit));
}

TEST_F(TransientUnitsTest, AStoppedStartLeavesNothing) {
    std::stop_source stop;
    stop.request_stop();
    const auto request = shell("exec sleep 1000");
    EXPECT_THROW(tests::run(loop, units->start(request, in(tests::patience), stop.get_token())), Cancelled);
    EXPECT_TRUE(forgotten(unit_name(request)));
}

TEST_F(TransientUnitsTest, ANameInUseIsRefusedAndALeftOverReplaced) {
    const auto request = shell("exec sleep 1000");
    const auto unit = start(request);
    EXPECT_THAT(refusal(request), HasSubstr("still runs process " + std::to_string(unit.pid)));
    EXPECT_EQ(output_of("systemctl is-active -- '" + unit.name + "'"), "active\n") << "the refusal leaves it alone";
    units->kill(unit, false);
    pollfd end{unit.pidfd.get(), POLLIN, 0};
    ::poll(&end, 1, -1);
    const auto again = start(request);  // nobody asked how the first one ended
    EXPECT_EQ(again.name, unit.name);
    units->kill(again, true);
    EXPECT_EQ(status(again).signal, SIGTERM);
}

TEST_F(TransientUnitsTest, ALeftOverOfACleanEndIsReplaced) {
    const auto request = shell("exit 0");
    for (int round = 0; round < 3; ++round) {
        const auto unit = start(request);
        pollfd end{unit.pidfd.get(), POLLIN, 0};
        ::poll(&end, 1, -1);
        loop.run_until([] { return false; }, Duration{20});
    }
    units->kill(start(request), false);
}

TEST_F(TransientUnitsTest, MachinedKnowsTheMachine) {
    auto request = shell("exec sleep 1000");
    const auto name = machine_name(request);
    const auto unit = start(std::move(request));
    std::string list;
    for (int tries = 0; tries < 400 && list.find(name) == list.npos; ++tries) {
        loop.run_until([] { return false; }, Duration{10});
        list = output_of("machinectl list --no-legend --no-pager");
    }
    EXPECT_THAT(list, HasSubstr(name));
    units->kill(unit, false);
    status(unit);
}

TEST_F(TransientUnitsTest, WritableFoldersBelongToTheGuest) {
    const tests::TemporaryFolder parent;  // in /tmp, which the guest has its own of
    const std::string folder = "/run/virtbus-test-writable";
    ::mkdir(folder.c_str(), 0700);
    auto request = shell("touch /run/virtbus-test-writable/x");
    request.writable = {folder};
    EXPECT_EQ(status(start(std::move(request))).code, 0);
    struct stat info{};
    EXPECT_EQ(::stat((folder + "/x").c_str(), &info), 0);
    EXPECT_EQ(info.st_uid, 65534u);
}

/// Says what a unit costs over a plain process; asserts no time.
TEST_F(TransientUnitsTest, TheCostOfAUnitIsShown) {
    const auto median = [this](Units& form) {
        std::vector<double> times;
        for (int i = 0; i < 9; ++i) {
            auto request = shell("");
            request.argv = {"/bin/sleep", "1000"};
            const auto begin = std::chrono::steady_clock::now();
            const auto unit = tests::run(loop, form.start(std::move(request), in(tests::patience), {}));
            times.push_back(
                std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
            form.kill(unit, false);
            pollfd end{unit.pidfd.get(), POLLIN, 0};
            ::poll(&end, 1, -1);
            tests::run(loop, form.exit_status(unit.name, unit.pid, in(tests::patience)));
        }
        std::ranges::sort(times);
        return times[times.size() / 2];
    };
    PlainUnits plain{loop, LAUNCHER, std::nullopt};
    std::printf("a start takes %.1f ms as a unit, %.1f ms as a plain process (median)\n", median(*units),
                median(plain));
}

}  // namespace
}  // namespace virtbus::systemd
