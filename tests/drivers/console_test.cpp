// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/console.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <termios.h>

#include "qemu/keys.hpp"
#include "tests/drivers/poll_loop.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {
namespace {

/// A terminal as QEMU makes one: the test is the guest.
struct Terminal {
    Fd guest{::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)};
    Fd keeper;
    std::string path;
    Terminal() {
        ::grantpt(guest.get());
        ::unlockpt(guest.get());
        char name[64];
        ::ptsname_r(guest.get(), name, sizeof name);
        path = name;
        keeper = open_pty(path);
        termios settings{};
        ::tcgetattr(keeper.get(), &settings);
        ::cfmakeraw(&settings);
        ::tcsetattr(keeper.get(), TCSANOW, &settings);
    }
};

std::string read_all(int fd) {
    std::string text;
    char buffer[4096];
    for (ssize_t got; (got = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT)) > 0;)
        text.append(buffer, static_cast<std::size_t>(got));
    return text;
}

bool is_closed(int fd) {
    char c;
    return ::recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

TEST(Consoles, CopyBothWays) {
    tests::PollLoop loop;
    Terminal terminal;
    Consoles consoles{loop};
    const auto stream = consoles.open("serial0", open_pty(terminal.path));
    ASSERT_EQ(::write(terminal.guest.get(), "login: ", 7), 7);
    std::string seen;
    loop.run_until([&] { return (seen += read_all(stream.get())) == "login: "; });
    ASSERT_EQ(::write(stream.get(), "root\r", 5), 5);
    std::string typed;
    loop.run_until([&] {
        char buffer[16];
        if (const auto got = ::read(terminal.guest.get(), buffer, sizeof buffer); got > 0)
            typed.append(buffer, static_cast<std::size_t>(got));
        return typed == "root\r";
    });
}

TEST(Consoles, AreFreeWhenTheCallerHasClosed) {
    tests::PollLoop loop;
    Terminal terminal;
    Consoles consoles{loop};
    auto stream = consoles.open("serial0", open_pty(terminal.path));
    EXPECT_TRUE(consoles.is_open("serial0"));
    stream = Fd{};
    loop.run_until([&] { return !consoles.is_open("serial0"); });
}

TEST(Consoles, CanBeTakenAway) {
    tests::PollLoop loop;
    Terminal terminal;
    Consoles consoles{loop};
    const auto first = consoles.open("serial0", open_pty(terminal.path));
    consoles.close("serial0");
    EXPECT_TRUE(is_closed(first.get()));
    const auto second = consoles.open("serial0", open_pty(terminal.path));
    loop.turn();
    EXPECT_TRUE(consoles.is_open("serial0"));
    EXPECT_FALSE(is_closed(second.get()));
}

TEST(Consoles, DeliverTheLastWordsOfADeviceThatGoes) {
    tests::PollLoop loop;
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    Consoles consoles{loop};
    const auto stream = consoles.open("serial0", Fd{ends[0]});
    ASSERT_EQ(::write(ends[1], "bye", 3), 3);
    ::close(ends[1]);
    loop.run_until([&] { return !consoles.is_open("serial0"); });
    EXPECT_EQ(read_all(stream.get()), "bye");
    EXPECT_TRUE(is_closed(stream.get()));
}

TEST(Consoles, ACallerThatDoesNotReadHoldsUpNothing) {
    tests::PollLoop loop;
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const Fd device{ends[1]};
    Consoles consoles{loop};
    const auto stream = consoles.open("serial0", Fd{ends[0]});
    const std::string block(16U << 10, 'x');
    std::size_t written = 0;
    // Sixteen times what the pump may keep: it is all taken from the device.
    loop.run_until([&] {
        const auto sent = ::send(device.get(), block.data(), block.size(), MSG_DONTWAIT);
        if (sent > 0) written += static_cast<std::size_t>(sent);
        return written >= 16 * ConsolePump::output_limit;
    });
    ASSERT_EQ(::send(device.get(), "end", 3, 0), 3);
    std::string seen;
    loop.run_until([&] { return (seen += read_all(stream.get())).ends_with("end"); });
    EXPECT_LT(seen.size(), 4 * ConsolePump::output_limit);
}

TEST(Consoles, ADeviceThatDoesNotReadIsWaitedFor) {
    tests::PollLoop loop;
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const Fd device{ends[1]};
    Consoles consoles{loop};
    const auto stream = consoles.open("serial0", Fd{ends[0]});
    const std::string block(16U << 10, 'x');
    std::size_t sent = 0, idle = 0;
    while (idle < 20) {
        const auto n = ::send(stream.get(), block.data(), block.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        n > 0 ? (sent += static_cast<std::size_t>(n), idle = 0) : ++idle;
        loop.turn();
    }
    EXPECT_LT(sent, 4U << 20);
    std::size_t got = 0;
    loop.run_until([&] { return (got += read_all(device.get()).size()) == sent; });
}

TEST(Keys, HaveLinuxAndQemuNames) {
    EXPECT_EQ(qcode_of("KEY_LEFTCTRL"), "ctrl");
    EXPECT_EQ(qcode_of("ctrl"), "ctrl");
    EXPECT_EQ(qcode_of("KEY_A"), "a");
    EXPECT_EQ(qcode_of("KEY_1"), "1");
    EXPECT_EQ(qcode_of("KEY_F12"), "f12");
    EXPECT_EQ(qcode_of("KEY_DELETE"), "delete");
    EXPECT_EQ(qcode_of("KEY_102ND"), "less");
    EXPECT_EQ(qcode_of("ret"), "ret");
    for (const auto* name : {"KEY_a", "KEY_", "", "A", "KEY_LEFTCTRL ", "rm -rf", "KEY_MSDOS"}) {
        try {
            qcode_of(name);
            FAIL() << name;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Code::invalid_args);
            EXPECT_NE(std::string{error.what()}.find(name), std::string::npos);
        }
    }
}

TEST(Keys, AreOneToSixteen) {
    EXPECT_THROW(qcodes_of({}), Error);
    EXPECT_EQ(qcodes_of(std::vector<std::string>(16, "a")).size(), 16U);
    EXPECT_THROW(qcodes_of(std::vector<std::string>(17, "a")), Error);
}

}  // namespace
}  // namespace virtbus::qemu
