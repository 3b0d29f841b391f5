// SPDX-License-Identifier: LGPL-2.1-or-later
// The launcher itself, run as a child: what the program it becomes finds.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>

#include "launch/protocol.hpp"

namespace virtbus::systemd {
namespace {

using testing::HasSubstr;

struct Launched {
    pid_t pid = -1;
    std::optional<Started> started;
    std::string failure, output;
    int status = -1;
};

/// Runs the order to its end and collects what it wrote.
Launched run(LaunchOrder order) {
    std::array<int, 2> orders{}, reports{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, orders.data()) < 0 ||
        ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, reports.data()) < 0)
        throw std::runtime_error{"no sockets"};
    const Fd ours{orders[0]}, report{reports[0]};
    Fd theirs{orders[1]}, their_report{reports[1]};
    const Fd output{::memfd_create("output", MFD_CLOEXEC)};
    if (order.output == 0) order.output = output.get();
    order.report = their_report.get();
    send_order(ours.get(), order);
    their_report = Fd{};

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDIN_FILENO);
    std::string program = LAUNCHER;
    std::array<char*, 2> argv{program.data(), nullptr};
    Launched launched;
    ::posix_spawn(&launched.pid, LAUNCHER, &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    theirs = Fd{};

    for (;;) {
        pollfd ready{report.get(), POLLIN, 0};
        ::poll(&ready, 1, -1);
        auto packet = receive_report(report.get());
        if (!packet) continue;
        if (packet->started)
            launched.started = std::move(packet->started);
        else if (!packet->failure.empty())
            launched.failure = packet->failure;
        else
            break;
    }
    ::waitpid(launched.pid, &launched.status, 0);
    std::array<char, 65536> text{};
    const auto size = ::pread(output.get(), text.data(), text.size(), 0);
    launched.output.assign(text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    return launched;
}

LaunchOrder shell(const std::string& script) {
    LaunchOrder order;
    order.argv = {"/bin/sh", "-c", script};
    order.environment = {"PATH=/usr/bin:/bin", "WORD=two words"};
    order.output = 0;
    return order;
}

TEST(Launcher, BecomesTheProgram) {
    const auto launched = run(shell("echo $$ \"$WORD\"; pwd; umask; exit 7"));
    ASSERT_TRUE(launched.started);
    EXPECT_EQ(launched.started->pid, static_cast<std::uint32_t>(launched.pid));
    EXPECT_EQ(launched.failure, "");
    EXPECT_EQ(launched.output, std::to_string(launched.pid) + " two words\n/\n0077\n");
    EXPECT_EQ(WEXITSTATUS(launched.status), 7);
}

TEST(Launcher, PlacesDescriptorsAndClosesTheRest) {
    const Fd leaked{::open("/dev/null", O_RDONLY)};  // without close-on-exec on purpose
    auto order =
        shell("cat <&3; cat <&4; ls -l /proc/$$/fd | sed -n 's/.* \\([0-9]*\\) -> .*/\\1/p' | sort -n | tr '\\n' ' '");
    std::array<int, 2> one{}, two{};
    ASSERT_EQ(::pipe2(one.data(), O_CLOEXEC), 0);
    ASSERT_EQ(::pipe2(two.data(), O_CLOEXEC), 0);
    ASSERT_EQ(::write(one[1], "first ", 6), 6);
    ASSERT_EQ(::write(two[1], "second ", 7), 7);
    ::close(one[1]);
    ::close(two[1]);
    order.fds = {{two[0], 4}, {one[0], 3}, {two[0], 40}};
    const auto launched = run(std::move(order));
    EXPECT_EQ(launched.output, "first second 0 1 2 3 4 40 ");
    ::close(one[0]);
    ::close(two[0]);
}

TEST(Launcher, StandsAlone) {
    const auto launched =
        run(shell("read -r pid comm state ppid pgrp sid rest </proc/$$/stat; echo $pid $sid; readlink /proc/$$/fd/0; "
                  "exec grep -E '^(NoNewPrivs|SigIgn|SigBlk)' /proc/self/status"));
    const auto pid = std::to_string(launched.pid);
    EXPECT_THAT(launched.output, HasSubstr(pid + " " + pid + "\n/dev/null\n"));
    EXPECT_THAT(launched.output, HasSubstr("NoNewPrivs:\t1"));
    EXPECT_THAT(launched.output, HasSubstr("SigBlk:\t0000000000000000"));
    EXPECT_THAT(launched.output, HasSubstr("SigIgn:\t0000000000000000"));
}

TEST(Launcher, ReportsAFailedExec) {
    LaunchOrder order;
    order.argv = {"/nowhere/emulator"};
    order.output = 0;
    const auto launched = run(std::move(order));
    EXPECT_EQ(launched.failure, "Running /nowhere/emulator failed: No such file or directory");
    EXPECT_EQ(WEXITSTATUS(launched.status), 1);
}

TEST(Launcher, ChangesTheUser) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can change the user";
    auto order = shell("id -u; id -g; id -G; grep CapEff /proc/$$/status");
    order.account = Account{65534, 65534, {65534, 42}};
    const auto launched = run(std::move(order));
    EXPECT_THAT(launched.output, HasSubstr("65534\n65534\n65534 42\n"));
    EXPECT_THAT(launched.output, HasSubstr("CapEff:\t0000000000000000"));
}

TEST(Launcher, SetsTheLimitOfLockedMemory) {
    auto order = shell("ulimit -l");
    order.memory_locked = 64 << 10;
    EXPECT_EQ(run(std::move(order)).output, "64\n");
}

}  // namespace
}  // namespace virtbus::systemd
