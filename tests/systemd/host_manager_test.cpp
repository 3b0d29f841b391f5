// SPDX-License-Identifier: LGPL-2.1-or-later
// What the daemon says to the service manager and takes from it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <array>
#include <set>

#include "service/host/loop.hpp"
#include "systemd/activation.hpp"
#include "systemd/journal_log.hpp"
#include "systemd/notify.hpp"
#include "tests/support/run.hpp"
#include "virtbus/fd.hpp"
#include "virtbus/message_ids.hpp"

namespace virtbus::systemd {
namespace {

using ::testing::ElementsAre;

/// Stands for the manager's notification socket.
struct NotifyTest : ::testing::Test {
    NotifyTest() : socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)} {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        const auto path = folder / "notify";
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    }
    ~NotifyTest() override {
        ::unsetenv("NOTIFY_SOCKET");
        ::unsetenv("WATCHDOG_USEC");
    }
    std::vector<std::string> said() {
        std::vector<std::string> all;
        std::array<char, 4096> text{};
        for (ssize_t size = 0; (size = ::recv(socket.get(), text.data(), text.size(), 0)) > 0;)
            all.emplace_back(text.data(), static_cast<std::size_t>(size));
        return all;
    }
    tests::TemporaryFolder folder;
    Fd socket;
    host::MainLoop loop;
};

TEST_F(NotifyTest, SaysHowItGoes) {
    Notify notify{loop};
    notify.ready();
    notify.status("two\nlines");
    notify.stopping();
    EXPECT_THAT(said(), ElementsAre("READY=1", "STATUS=two lines", "STOPPING=1"));
}

TEST_F(NotifyTest, FeedsTheWatchdogFromTheLoop) {
    ::setenv("WATCHDOG_USEC", "10000", 1);
    Notify notify{loop};
    notify.ready();
    unsigned fed = 0;
    EXPECT_TRUE(loop.run_until(
        [&] {
            for (const auto& line : said()) fed += line == "WATCHDOG=1";
            return fed >= 3;
        },
        tests::patience));
}

/// Descriptors come at fixed numbers, so the taker is a child of its own.
TEST(Activation, TakesOnlyTheSocketsOfThatName) {
    const auto child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        const auto listening = [](int number) {
            const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
            sockaddr_un address{};
            address.sun_family = AF_UNIX;
            if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t)) < 0 || ::listen(fd, 1) < 0 ||
                ::dup2(fd, number) < 0)
                ::_exit(10);
        };
        listening(53);
        listening(54);
        ::dup2(53, 3);
        ::dup2(54, 4);
        ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
        ::setenv("LISTEN_FDS", "2", 1);
        ::setenv("LISTEN_FDNAMES", "other:virtbus", 1);
        const auto sockets = take_listening_sockets("virtbus");
        const bool right = sockets.size() == 1 && sockets.front().get() == 4 && (::fcntl(4, F_GETFL) & O_NONBLOCK);
        ::_exit(right && take_listening_sockets("virtbus").empty() ? 0 : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
}

struct CollectedLog final : Log {
    void write(Priority, std::string_view message, const Fields& given) override {
        text = message;
        fields = given;
    }
    std::string text;
    Fields fields;
};

TEST(JournalLogTest, WithoutAJournalTheOtherLogTakesAll) {
    CollectedLog other;
    JournalLog log{other};
    EXPECT_FALSE(log.connected());
    log.info("hello", {{"DOMAIN", "web"}});
    EXPECT_EQ(other.text, "hello");
    EXPECT_THAT(other.fields, ElementsAre(std::pair{"DOMAIN", "web"}));
    log.debug("not asked for");
    EXPECT_EQ(other.text, "hello");
}

TEST(JournalLogTest, AForeignStreamIsNotTheJournal) {
    CollectedLog other;
    ::setenv("JOURNAL_STREAM", "1:1", 1);
    EXPECT_FALSE((JournalLog{other}.connected()));
    ::unsetenv("JOURNAL_STREAM");
}

TEST(MessageIds, AreAllDifferentAndWellFormed) {
    std::set<std::string_view> seen;
    for (const auto& [name, id] : message_id::all) {
        EXPECT_EQ(id.size(), 32u) << name;
        EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), id.npos) << name;
        EXPECT_TRUE(seen.insert(id).second) << name;
    }
}

}  // namespace
}  // namespace virtbus::systemd
