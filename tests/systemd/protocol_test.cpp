// SPDX-License-Identifier: LGPL-2.1-or-later
#include "launch/protocol.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>

#include "virtbus/error.hpp"

namespace virtbus::systemd {
namespace {

struct Sockets {
    Sockets() {
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0) {
            ours = Fd{ends[0]};
            theirs = Fd{ends[1]};
        }
    }
    Fd ours, theirs;
};

LaunchOrder sample() {
    LaunchOrder order;
    order.argv = {"/usr/bin/true", "-name", "a b\n'c'", ""};
    order.environment = {"PATH=/bin", "EMPTY="};
    order.fds = {{1, 5}, {2, 3}};
    order.output = 1;
    order.account = Account{1000, 100, {100, 36}};
    order.memory_locked = std::uint64_t{1} << 40;
    return order;
}

TEST(LaunchOrder, SurvivesTheWay) {
    const auto order = sample();
    const auto back = decode(encode(order));
    EXPECT_EQ(back.argv, order.argv);
    EXPECT_EQ(back.environment, order.environment);
    EXPECT_THAT(back.fds, testing::ElementsAre(std::pair{-1, 5}, std::pair{-1, 3}));
    EXPECT_EQ(back.output, 0);
    ASSERT_TRUE(back.account);
    EXPECT_EQ(back.account->uid, 1000u);
    EXPECT_EQ(back.account->groups, (std::vector<std::uint32_t>{100, 36}));
    EXPECT_EQ(back.memory_locked, order.memory_locked);
}

TEST(LaunchOrder, EveryCutIsRefused) {
    const auto whole = encode(sample());
    for (std::size_t length = 0; length < whole.size(); ++length)
        EXPECT_THROW(decode(std::string_view{whole}.substr(0, length)), Error) << length;
    EXPECT_THROW(decode(whole + "x"), Error);
}

TEST(LaunchOrder, EveryFlippedByteIsRefusedOrHarmless) {
    const auto whole = encode(sample());
    for (std::size_t at = 0; at < whole.size(); ++at) {
        auto broken = whole;
        broken[at] = static_cast<char>(~broken[at]);
        try {
            const auto order = decode(broken);
            EXPECT_TRUE(order.argv.front().starts_with('/'));
        } catch (const Error&) {
        }
    }
}

TEST(LaunchOrder, BoundsAreKept) {
    auto order = sample();
    order.argv[0] = "true";
    EXPECT_THROW(encode(order), Error);
    order = sample();
    order.fds = {{1, 3}, {2, 3}};
    EXPECT_THROW(encode(order), Error);
    order.fds = {{1, 2}};
    EXPECT_THROW(encode(order), Error);
    order.fds.clear();
    order.argv.emplace_back(launch_max_body, 'x');
    EXPECT_THROW(encode(order), Error);
    order.argv.back() = std::string{"a\0b", 3};
    EXPECT_THROW(encode(order), Error);
}

TEST(LaunchOrder, ManyDescriptorsArriveInOrder) {
    const Sockets sockets;
    ASSERT_TRUE(sockets.ours);
    LaunchOrder order;
    order.argv = {"/bin/true"};
    std::vector<Fd> files;
    for (int i = 0; i < 600; ++i) {
        files.emplace_back(::memfd_create("test", MFD_CLOEXEC));
        ASSERT_TRUE(files.back());
        ASSERT_EQ(::ftruncate(files.back().get(), i), 0);
        order.fds.emplace_back(files.back().get(), 10 + i);
    }
    order.report = sockets.ours.get();
    send_order(sockets.ours.get(), order);
    files.clear();
    const auto received = receive_order(sockets.theirs.get());
    ASSERT_EQ(received.order.fds.size(), 600u);
    for (int i = 0; i < 600; ++i) {
        struct stat info{};
        ASSERT_EQ(::fstat(received.order.fds[static_cast<std::size_t>(i)].first, &info), 0);
        EXPECT_EQ(info.st_size, i);
        EXPECT_EQ(received.order.fds[static_cast<std::size_t>(i)].second, 10 + i);
    }
}

TEST(LaunchOrder, ForeignPacketsAreRefused) {
    const Sockets sockets;
    ASSERT_EQ(::send(sockets.ours.get(), "rubbish", 7, 0), 7);
    EXPECT_THROW(receive_order(sockets.theirs.get()), Error);
}

TEST(LaunchOrder, AClosedSocketIsRefused) {
    Sockets sockets;
    sockets.ours = Fd{};
    EXPECT_THROW(receive_order(sockets.theirs.get()), Error);
}

TEST(LaunchReport, CarriesPidAndPidfd) {
    Sockets sockets;
    EXPECT_FALSE(receive_report(sockets.ours.get()));
    send_started(sockets.theirs.get());
    auto report = receive_report(sockets.ours.get());
    ASSERT_TRUE(report && report->started);
    EXPECT_EQ(report->started->pid, static_cast<std::uint32_t>(::getpid()));
    EXPECT_TRUE(report->started->pidfd);
    sockets.theirs = Fd{};
    report = receive_report(sockets.ours.get());
    ASSERT_TRUE(report);
    EXPECT_FALSE(report->started);
    EXPECT_TRUE(report->failure.empty());
}

}  // namespace
}  // namespace virtbus::systemd
