// SPDX-License-Identifier: LGPL-2.1-or-later
// Peers on the socket: friendly ones that believe to be on a bus, and hostile ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/un.h>

#include <filesystem>

#include "tests/dbus/lamps.hpp"

namespace virtbus::dbus {
namespace {

using ::testing::HasSubstr;
const std::string one = "/org/example/lamp/one";

struct PeersTest : ::testing::Test, Bed {
    using Client = tests::Client;
    const std::string bus_path = "/org/freedesktop/DBus";

    /// True when the other end has closed.
    static bool is_closed(const Fd& socket) {
        char byte = 0;
        return ::recv(socket.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
    }
    static void write(const Fd& socket, std::string_view bytes) {
        ASSERT_EQ(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT),
                  static_cast<ssize_t>(bytes.size()));
    }
    /// A raw connection that has authenticated and may send messages.
    Fd authenticated() {
        Fd socket = connect();
        const std::string uid = std::to_string(::getuid());
        std::string hex;
        for (const char c : uid) hex += fmt_hex(c);
        write(socket, std::string{"\0", 1} + "AUTH EXTERNAL " + hex + "\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n");
        EXPECT_TRUE(run_until([&] {
            char text[256];
            const auto size = ::recv(socket.get(), text, sizeof text, MSG_DONTWAIT | MSG_PEEK);
            return size > 0 && std::string_view{text, static_cast<std::size_t>(size)}.find("AGREE_UNIX_FD") !=
                                   std::string_view::npos;
        }));
        char text[256];
        while (::recv(socket.get(), text, sizeof text, MSG_DONTWAIT) > 0) {
        }
        return socket;
    }
    static std::string fmt_hex(char c) {
        const char* digits = "0123456789abcdef";
        return {digits[(c >> 4) & 15], digits[c & 15]};
    }
};

TEST_F(PeersTest, AClientOfABusFeelsAtHome) {
    Client client{loop, connect(), true};
    const std::string bus = "org.freedesktop.DBus";
    EXPECT_EQ(Client::text(client.call(bus_path, bus, "GetNameOwner", "s", "org.example")), ":1.0");
    EXPECT_EQ(client.call(bus_path, bus, "GetNameOwner", "s", "org.nobody").error,
              "org.freedesktop.DBus.Error.NameHasNoOwner");
    EXPECT_THAT(Client::print(client.call(bus_path, bus, "ListNames")), HasSubstr("org.example"));
    EXPECT_THAT(Client::print(client.call(bus_path, bus, "NameHasOwner", "s", "org.example")), HasSubstr("true"));
    EXPECT_EQ(client.call(bus_path, bus, "RequestName", "su", "org.mine", 0u).error,
              "org.freedesktop.DBus.Error.AccessDenied");
    EXPECT_EQ(client.call(bus_path, bus, "Hello").error, "org.freedesktop.DBus.Error.Failed");
    EXPECT_EQ(client.call(bus_path, bus, "Dance").error, "org.freedesktop.DBus.Error.UnknownMethod");
    EXPECT_EQ(client.call(bus_path, bus, "AddMatch").error, "org.freedesktop.DBus.Error.InvalidArgs");
    EXPECT_EQ(Client::text(client.call(one, lamp, "Look")), "the first");
    const auto elsewhere = client.make(one, lamp, "Look", "org.elsewhere");
    EXPECT_EQ(client.send(elsewhere).wait().error, "org.freedesktop.DBus.Error.ServiceUnknown");
}

TEST_F(PeersTest, AClientOfABusHearsSignalsWhenItAskedForSome) {
    Client client{loop, connect(), true};
    ASSERT_TRUE(client.call(one, lamp, "Switch", "ba{sv}", 1, 0).ok());
    EXPECT_TRUE(client.signals.empty());
    ASSERT_TRUE(client.call(bus_path, "org.freedesktop.DBus", "AddMatch", "s", "type='signal'").ok());
    ASSERT_TRUE(client.call(one, lamp, "Switch", "ba{sv}", 0, 0).ok());
    EXPECT_EQ(client.signals.size(), 2u);
    ASSERT_TRUE(client.call(bus_path, "org.freedesktop.DBus", "RemoveMatch", "s", "type='signal'").ok());
    EXPECT_EQ(client.call(bus_path, "org.freedesktop.DBus", "RemoveMatch", "s", "type='signal'").error,
              "org.freedesktop.DBus.Error.MatchRuleNotFound");
    ASSERT_TRUE(client.call(one, lamp, "Switch", "ba{sv}", 1, 0).ok());
    EXPECT_EQ(client.signals.size(), 2u);
}

TEST_F(PeersTest, APlainPeerHearsAllSignals) {
    Client client{loop, connect()};
    ASSERT_TRUE(client.call(one, lamp, "Switch", "ba{sv}", 1, 0).ok());
    EXPECT_EQ(client.signals.size(), 2u);
}

TEST_F(PeersTest, NobodyHearsSignalsBeforeHavingSpoken) {
    const Fd silent = authenticated();
    Client other{loop, connect()};
    for (int i = 0; i < 5; i++) ASSERT_TRUE(other.call(one, lamp, "Switch", "ba{sv}", i % 2, 0).ok());
    char byte = 0;
    EXPECT_EQ(::recv(silent.get(), &byte, 1, MSG_DONTWAIT), -1);
    EXPECT_EQ(errno, EAGAIN);
}

TEST_F(PeersTest, LeavingIsNoticed) {
    Client client{loop, connect()};
    ASSERT_TRUE(client.call(one, lamp, "Look").ok());
    bool told = false;
    const auto watch = dispatcher.presence().when_gone(lamps.last_caller, [&] { told = true; });
    EXPECT_FALSE(peers.empty());
    client.leave();
    EXPECT_TRUE(run_until([&] { return told; }));
    EXPECT_TRUE(peers.empty());
    EXPECT_TRUE(dispatcher.presence().empty());
    bool told_late = false;
    const auto late = dispatcher.presence().when_gone(lamps.last_caller, [&] { told_late = true; });
    EXPECT_TRUE(run_until([&] { return told_late; })) << "whoever watches too late is told all the same";
}

TEST_F(PeersTest, ThereAreSoManyConnectionsOfOneUser) {
    std::vector<Fd> sockets;
    for (int i = 0; i < 4; i++) sockets.push_back(connect());
    EXPECT_THROW(connect(), Error);
    sockets.pop_back();
    ASSERT_TRUE(run_until([&] {
        try {
            sockets.push_back(connect());
            return true;
        } catch (const Error&) {
            return false;
        }
    }));
}

TEST_F(PeersTest, WhoDoesNotAuthenticateIsDismissed) {
    const Fd silent = connect(), slow = connect();
    write(slow, std::string{"\0", 1} + "AUTH EXT");
    EXPECT_TRUE(run_until([&] { return is_closed(silent) && is_closed(slow); }));
    EXPECT_TRUE(peers.empty());
}

TEST_F(PeersTest, WhoSpeaksRubbishIsDismissed) {
    const Fd rubbish = connect();
    write(rubbish, std::string(300, '\x7f') + "\r\n");
    const Fd other_uid = connect();
    write(other_uid, std::string{"\0", 1} + "AUTH EXTERNAL 393939393939\r\nBEGIN\r\n");
    EXPECT_TRUE(run_until([&] { return is_closed(rubbish) && peers.empty(); }));
}

TEST_F(PeersTest, WhoSendsRubbishMessagesIsDismissed) {
    const Fd socket = authenticated();
    write(socket, std::string(64, 'x'));
    EXPECT_TRUE(run_until([&] { return is_closed(socket); }));
}

TEST_F(PeersTest, HalfAMessageHarmsNobodyElse) {
    const Fd half = authenticated();
    write(half, std::string{"l\1\0\1\0\0\20\0\1\0\0\0\20\0\0\0", 16});
    Client client{loop, connect()};
    EXPECT_TRUE(client.call(one, lamp, "Look").ok());
    EXPECT_FALSE(is_closed(half));
}

TEST_F(PeersTest, WhoDoesNotReadIsAskedNothingMore) {
    Client deaf{loop, connect()};
    ASSERT_TRUE(deaf.call(one, lamp, "Look").ok());
    // A hundred calls for 4 MiB each: without a bound 400 MiB would wait to be sent.
    deaf.stop_reading();
    lamps.handled = 0;
    for (int i = 0; i < 100; i++) deaf.start(one, lamp, "Glow", "u", 4u << 20);
    sd_bus_flush(deaf.bus());
    Client other{loop, connect()};
    for (int i = 0; i < 50; i++) ASSERT_TRUE(other.call(one, properties, "GetAll", "s", lamp).ok());
    EXPECT_LT(lamps.handled, 20u);
    deaf.go_on_reading();
    EXPECT_TRUE(run_until([&] { return lamps.handled == 100; })) << "what waited is answered";
}

TEST_F(PeersTest, TheSocketIsMadeAndRemoved) {
    const tests::TemporaryFolder folder;
    const std::string path = folder / "bus";
    peers.listen(path, 0600);
    EXPECT_TRUE(std::filesystem::is_socket(path));
    Client client{loop, [&] {
                      Fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
                      sockaddr_un address{};
                      address.sun_family = AF_UNIX;
                      path.copy(address.sun_path, path.size());
                      EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
                      return socket;
                  }()};
    EXPECT_EQ(Client::text(client.call(one, lamp, "Look")), "the first");
    peers.stop_listening();
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_TRUE(client.call(one, lamp, "Look").ok()) << "who is connected is still served";
}

}  // namespace
}  // namespace virtbus::dbus
