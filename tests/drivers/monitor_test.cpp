// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/monitor.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "qemu/line_reader.hpp"
#include "tests/drivers/poll_loop.hpp"

namespace virtbus::qemu {
namespace {

using nlohmann::json;
using tests::PollLoop;

constexpr auto greeting = R"({"QMP":{"version":{},"capabilities":[]}})"
                          "\n";

/// The other end of the socket: the test says what it sends and looks at what came.
struct Peer {
    PollLoop loop;
    Fd socket;
    std::vector<std::string> events;
    std::optional<std::string> ended;
    std::vector<bool> stalls;
    std::unique_ptr<Monitor> monitor;
    std::string received;
    std::vector<int> descriptors;
    std::function<void()> on_event;

    explicit Peer(Monitor::Options options = {}) {
        int ends[2];
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw std::runtime_error{"socketpair"};
        socket = Fd{ends[0]};
        Monitor::Handlers handlers;
        handlers.event = [this](std::string_view name, const json& data) {
            events.push_back(std::string{name} + data.dump());
            if (on_event) on_event();
        };
        handlers.ended = [this](const Error& why) { ended = why.what(); };
        handlers.stalled = [this](bool stalled) { stalls.push_back(stalled); };
        monitor = std::make_unique<Monitor>(loop, Fd{ends[1]}, "domain 'web'", std::move(handlers), options);
    }
    ~Peer() {
        for (const int fd : descriptors) ::close(fd);
    }
    void say(std::string_view bytes) {
        while (!bytes.empty()) {
            const auto sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent < 0 && errno != EAGAIN) return;
            if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
            loop.turn();
        }
    }
    /// Reads until that many lines are there.
    std::vector<json> lines(std::size_t wanted) {
        std::vector<json> result;
        loop.run_until([&] {
            read_some();
            std::size_t count = 0;
            for (const char c : received) count += c == '\n';
            return count >= wanted;
        });
        while (result.size() < wanted) {
            const auto end = received.find('\n');
            result.push_back(json::parse(received.substr(0, end)));
            received.erase(0, end + 1);
        }
        return result;
    }
    void read_some() {
        char buffer[4096];
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
        iovec part{buffer, sizeof buffer};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        const auto got = ::recvmsg(socket.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got <= 0) return;
        received.append(buffer, static_cast<std::size_t>(got));
        if (const auto* header = CMSG_FIRSTHDR(&message)) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
            descriptors.push_back(fd);
        }
    }
    /// Says it and waits for the end of the monitor; what a waiting command was told.
    std::string ends_by(std::string_view bytes, std::string_view first = greeting) {
        say(first);
        const auto answer = monitor->send("query-status");
        say(bytes);
        loop.run_until([&] { return ended.has_value(); });
        try {
            loop.run(answer.get(in(Duration{10000})));
        } catch (const Error& error) {
            EXPECT_EQ(error.what(), *ended);
            return error.what();
        }
        return "an answer";
    }
};

TEST(LineReader, HandsOutWholeLinesOnly) {
    LineReader reader{100};
    reader.feed("one\r\ntwo\nth");
    EXPECT_EQ(reader.next(), "one");
    EXPECT_EQ(reader.next(), "two");
    EXPECT_EQ(reader.next(), std::nullopt);
    reader.feed("ree\n\n");
    EXPECT_EQ(reader.next(), "three");
    EXPECT_EQ(reader.next(), "");
    EXPECT_EQ(reader.next(), std::nullopt);
    EXPECT_EQ(reader.pending(), 0U);
}

TEST(LineReader, RefusesAnEndlessLine) {
    LineReader reader{100};
    reader.feed(std::string(100, 'x'));
    EXPECT_THROW(reader.feed("y"), Error);
}

TEST(Monitor, SendsEverythingWithoutWaitingForTheGreeting) {
    Peer peer;
    const auto status = peer.monitor->send("query-status");
    const auto stop = peer.monitor->send("device_del", json{{"id", "net0"}});
    const auto sent = peer.lines(3);
    EXPECT_EQ(sent[0]["execute"], "qmp_capabilities");
    EXPECT_EQ(sent[1]["execute"], "query-status");
    EXPECT_FALSE(sent[1].contains("arguments"));
    EXPECT_EQ(sent[2]["arguments"]["id"], "net0");
}

TEST(Monitor, MatchesAnswersByIdInAnyOrder) {
    Peer peer;
    peer.say(greeting);
    const auto first = peer.monitor->send("a"), second = peer.monitor->send("b");
    peer.say("{\"return\":\"two\",\"id\":3}\r\n{\"return\":{},\"id\":1}\r\n{\"return\":\"one\",\"id\":2}\r\n");
    EXPECT_EQ(peer.loop.run(first.get(in(Duration{10000}))), "one");
    EXPECT_EQ(peer.loop.run(second.get(in(Duration{10000}))), "two");
}

TEST(Monitor, WhatIsMeantForTheClientBeforeIsNoGreeting) {
    Peer peer;
    peer.say("{\"event\":\"RESET\",\"data\":{}}\n");
    peer.say(greeting);
    const auto answer = peer.monitor->send("a");
    peer.say("{\"return\":{},\"id\":1}\n{\"return\":\"one\",\"id\":2}\n");
    EXPECT_EQ(peer.loop.run(answer.get(in(Duration{10000}))), "one");
    EXPECT_TRUE(peer.events.empty());
}

TEST(Monitor, NamesTheCommandInQemusError) {
    Peer peer;
    peer.say(greeting);
    const auto answer = peer.monitor->send("device_del");
    peer.say("{\"id\":2,\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"Device 'x' not found\"}}\n");
    try {
        peer.loop.run(answer.get(in(Duration{10000})));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::no_such_device);
        EXPECT_STREQ(error.what(), "QEMU of domain 'web' refused device_del: Device 'x' not found");
    }
    EXPECT_TRUE(peer.monitor->is_open());
}

TEST(Monitor, DeliversEvents) {
    Peer peer;
    peer.say(greeting);
    peer.say("{\"event\":\"STOP\",\"timestamp\":{}}\n{\"event\":\"RESET\",\"data\":{\"guest\":true}}\n");
    peer.loop.run_until([&] { return peer.events.size() == 2; });
    EXPECT_EQ(peer.events[0], "STOPnull");
    EXPECT_EQ(peer.events[1], R"(RESET{"guest":true})");
}

TEST(Monitor, MayBeDestroyedByAnEvent) {
    Peer peer;
    peer.on_event = [&] { peer.monitor.reset(); };
    peer.say(greeting);
    peer.say("{\"event\":\"STOP\"}\n{\"event\":\"RESUME\"}\n");
    peer.loop.run_until([&] { return !peer.monitor; });
    EXPECT_EQ(peer.events.size(), 1U);
    peer.loop.turn();
    EXPECT_FALSE(peer.ended);
}

TEST(Monitor, PassesOneDescriptorAtATime) {
    Peer peer;
    peer.say(greeting);
    int pipe_ends[2];
    ASSERT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
    const auto first = peer.monitor->send("getfd", json{{"fdname", "a"}}, Fd{pipe_ends[0]});
    const auto second = peer.monitor->send("getfd", json{{"fdname", "b"}}, Fd{pipe_ends[1]});
    auto sent = peer.lines(2);
    EXPECT_EQ(sent[1]["arguments"]["fdname"], "a");
    peer.loop.turn();
    peer.read_some();
    EXPECT_EQ(peer.received, "");
    EXPECT_EQ(peer.descriptors.size(), 1U);
    peer.say("{\"return\":{},\"id\":2}\n");
    sent = peer.lines(1);
    EXPECT_EQ(sent[0]["arguments"]["fdname"], "b");
    ASSERT_EQ(peer.descriptors.size(), 2U);
    struct stat info{};
    EXPECT_EQ(::fstat(peer.descriptors[1], &info), 0);
    EXPECT_TRUE(S_ISFIFO(info.st_mode));
    peer.loop.run(first.get(in(Duration{10000})));
}

TEST(Monitor, TimesOutOneWaitAndLivesOn) {
    Peer peer;
    peer.say(greeting);
    const auto answer = peer.monitor->send("query-status");
    try {
        peer.loop.run(answer.get(in(Duration{1})));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::timeout);
    }
    peer.say("{\"return\":{},\"id\":2}\n");  // late: taken, given to nobody
    const auto next = peer.monitor->send("query-status");
    peer.say("{\"return\":7,\"id\":3}\n");
    EXPECT_EQ(peer.loop.run(next.get(in(Duration{10000}))), 7);
}

TEST(Monitor, TellsWhenThePeerGoesSilentAndComesBack) {
    Monitor::Options options;
    options.patience = Duration{1};
    Peer peer{options};
    peer.say(greeting);
    peer.loop.run_until([&] { return peer.stalls.size() == 1; });
    EXPECT_TRUE(peer.stalls[0]);
    EXPECT_TRUE(peer.monitor->is_stalled());
    peer.say("{\"return\":{},\"id\":1}\n");
    peer.loop.run_until([&] { return peer.stalls.size() == 2; });
    EXPECT_FALSE(peer.stalls[1]);
}

TEST(Monitor, EndsWhenNobodyGreets) {
    Monitor::Options options;
    options.greeting = Duration{1};
    Peer peer{options};
    EXPECT_EQ(peer.ends_by("", ""), "the monitor of domain 'web' did not greet in time");
}

TEST(Monitor, EndsOnAFirstLineThatIsNoGreeting) {
    Peer peer;
    EXPECT_EQ(peer.ends_by("", "{\"return\":{}}\n"),
              "the monitor of domain 'web' broke the protocol: the first line is no greeting");
}

TEST(Monitor, EndsOnRubbish) {
    Peer peer;
    EXPECT_EQ(peer.ends_by("\x01\xff rubbish\n"),
              "the monitor of domain 'web' broke the protocol: no JSON: \"?? rubbish\"");
}

TEST(Monitor, EndsOnAClosedSocketInTheMiddleOfALine) {
    Peer peer;
    peer.say(greeting);
    peer.say("{\"return\":");
    const auto answer = peer.monitor->send("query-status");
    peer.lines(2);
    peer.socket = Fd{};
    {
        const Fd close_now{std::move(peer.socket)};
    }
    peer.loop.run_until([&] { return peer.ended.has_value(); });
    EXPECT_EQ(*peer.ended, "the monitor of domain 'web' was closed in the middle of a line");
    EXPECT_THROW(peer.loop.run(answer.get(in(Duration{10000}))), Error);
    EXPECT_THROW(peer.loop.run(peer.monitor->execute("query-status", in(Duration{10000}))), Error);
}

TEST(Monitor, EndsOnAnswersNobodyAskedFor) {
    for (const auto* line : {"{\"return\":{},\"id\":99}\n", "{\"return\":{}}\n", "{\"return\":{},\"id\":\"1\"}\n",
                             "{\"error\":{\"class\":\"GenericError\"},\"id\":-1}\n", "{}\n"}) {
        Peer peer;
        EXPECT_NE(peer.ends_by(line).find("an answer to nothing that was asked"), std::string::npos) << line;
    }
}

TEST(Monitor, PassesOverAnswersToAConnectionBefore) {
    Monitor::Options options;
    options.first_id = 1000;
    Peer peer{options};
    peer.say(greeting);
    peer.say("{\"return\":{},\"id\":7}\n{\"error\":{\"class\":\"GenericError\"},\"id\":999}\n");
    const auto answer = peer.monitor->send("query-status");
    EXPECT_EQ(peer.lines(2)[1]["id"], 1001);
    peer.say("{\"return\":{\"running\":true},\"id\":1001}\n");
    EXPECT_EQ(peer.loop.run(answer.get(in(Duration{10000})))["running"], true);
    EXPECT_FALSE(peer.ended);
}

TEST(Monitor, EndsOnTheSecondAnswerToOneCommand) {
    Peer peer;
    EXPECT_NE(peer.ends_by("{\"return\":{},\"id\":1}\n{\"return\":{},\"id\":1}\n").find("nothing that was asked"),
              std::string::npos);
}

TEST(Monitor, EndsOnLinesThatAreNoObjects) {
    for (const auto* line : {"[]\n", "7\n", "null\n", "\"event\"\n"}) {
        Peer peer;
        EXPECT_NE(peer.ends_by(line).find("no object"), std::string::npos) << line;
    }
}

TEST(Monitor, EndsOnDeepJson) {
    Peer peer;
    EXPECT_NE(peer.ends_by(std::string(100000, '[') + "\n").find("nested deeper"), std::string::npos);
}

TEST(Monitor, EndsOnAnEndlessLineWithoutKeepingIt) {
    Monitor::Options options;
    options.line_limit = 1U << 20;
    Peer peer{options};
    // Far more than the bound is offered; the monitor stops taking it.
    const std::string chunk(1U << 20, 'x');
    peer.say(greeting);
    for (int i = 0; i < 100 && !peer.ended; ++i) peer.say(chunk);
    peer.loop.run_until([&] { return peer.ended.has_value(); });
    EXPECT_EQ(*peer.ended, "the monitor of domain 'web' broke the protocol: a line of more than 1048576 bytes");
}

TEST(Monitor, EndsWhenAHandlerMeetsAnEventOfAnotherShape) {
    Peer peer;
    peer.on_event = [] { static_cast<void>(json("text").at("member")); };
    EXPECT_NE(peer.ends_by("{\"event\":\"STOP\",\"data\":7}\n").find("broke the protocol"), std::string::npos);
}

TEST(Monitor, RefusesCommandsThatThePeerDoesNotTake) {
    Monitor::Options options;
    options.in_flight = 3;
    Peer peer{options};
    const auto first = peer.monitor->send("a"), second = peer.monitor->send("b"), third = peer.monitor->send("c");
    try {
        peer.loop.run(third.get(in(Duration{10000})));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::timeout);
    }
    EXPECT_TRUE(peer.monitor->is_open());
}

TEST(Monitor, FailsAllWaitsWhenItIsClosed) {
    Peer peer;
    const auto answer = peer.monitor->send("query-status");
    peer.monitor->close(Error{Code::cancelled, "the guest was killed"});
    try {
        peer.loop.run(answer.get(in(Duration{10000})));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::cancelled);
    }
    EXPECT_FALSE(peer.ended);
}

}  // namespace
}  // namespace virtbus::qemu
