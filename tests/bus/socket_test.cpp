// SPDX-License-Identifier: LGPL-2.1-or-later
// The daemon's socket, where there is no bus: tools that believe there is one, and peers that mean no good.
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>

#include "tests/bus/user_bed.hpp"

namespace virtbus::tests {
namespace {

using ::testing::HasSubstr;

struct Socket : SharedDaemon<Socket> {
    static constexpr bool system_mode = false;
    const std::string address = "unix:path=" + bed().socket();

    /// What the program prints; its exit code must be 0.
    std::string run(std::vector<std::string> argv) {
        const std::string output = bed().folder / "output";
        std::filesystem::remove(output);
        Process process{argv, bed().environment(), output, output};
        EXPECT_EQ(process.wait(), 0) << argv[0] << ": " << read_file(output);
        return read_file(output);
    }
    std::string busctl(std::vector<std::string> words) {
        words.insert(words.begin(), {"busctl", "--no-pager", "--address=" + address});
        return run(std::move(words));
    }
    Fd connect_raw() {
        Fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        sockaddr_un to{};
        to.sun_family = AF_UNIX;
        bed().socket().copy(to.sun_path, sizeof to.sun_path - 1);
        EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
        return socket;
    }
    static void write(const Fd& socket, std::string_view bytes) {
        (void)!::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    }
    static bool is_closed(const Fd& socket) {
        char rest[4096];
        ssize_t size = 0;
        while ((size = ::recv(socket.get(), rest, sizeof rest, MSG_DONTWAIT)) > 0) {
        }
        return size == 0 || errno == ECONNRESET;
    }
    Fd authenticated() {
        Fd socket = connect_raw();
        write(socket, std::string{"\0", 1} + "AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n");
        std::string said;
        char text[256];
        while (said.find("AGREE_UNIX_FD") == std::string::npos) {
            const auto size = ::recv(socket.get(), text, sizeof text, 0);
            if (size <= 0) throw std::runtime_error{"not let in: " + said};
            said.append(text, static_cast<std::size_t>(size));
        }
        return socket;
    }
    static std::size_t open_descriptors() {
        const std::filesystem::directory_iterator all{"/proc/" + std::to_string(bed().daemon->pid()) + "/fd"};
        return static_cast<std::size_t>(std::distance(begin(all), end(all)));
    }
    void expect_service() { EXPECT_TRUE(client.call(root, manager, "ListDomains", "a{sv}", 0).ok()); }
};

TEST_F(Socket, BusctlWorksOnIt) {
    const std::string path = define(client, "seen-by-busctl");
    EXPECT_THAT(busctl({"list"}), HasSubstr("org.virtbus1"));
    EXPECT_THAT(busctl({"tree", "org.virtbus1"}), HasSubstr(path));
    const std::string description = busctl({"introspect", "org.virtbus1", path});
    EXPECT_THAT(description, HasSubstr(".Start"));
    EXPECT_THAT(description, HasSubstr("seen-by-busctl"));
    EXPECT_THAT(busctl({"call", "org.virtbus1", path, domain, "Start", "a{sv}", "0"}), HasSubstr("o \"/\""));
    EXPECT_THAT(busctl({"get-property", "org.virtbus1", path, domain, "State"}), HasSubstr("running"));
}

TEST_F(Socket, GdbusWorksOnIt) {
    const std::string path = define(client, "seen-by-gdbus");
    EXPECT_THAT(run({"gdbus", "introspect", "--address", address, "--dest", "org.virtbus1", "--object-path", path}),
                HasSubstr("seen-by-gdbus"));
    EXPECT_THAT(run({"gdbus", "call", "--address", address, "--dest", "org.virtbus1", "--object-path", "/org/virtbus1",
                     "--method", "org.virtbus1.Manager.GetDomain", "seen-by-gdbus"}),
                HasSubstr(path));
}

TEST_F(Socket, SignalsReachPeers) {
    const auto peer = bed().connect_to(address);
    peer->call("/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", "type='signal'");
    const auto match = peer->make("/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "org.freedesktop.DBus");
    sd_bus_message_append(match.get(), "s", "type='signal',sender='org.virtbus1'");
    ASSERT_TRUE(peer->send(match).wait().ok());
    define(client, "told-to-peers");
    EXPECT_TRUE(run_until([&] { return !peer->signals.empty(); }));
    EXPECT_EQ(peer->signals[0].member, "InterfacesAdded");
}

TEST_F(Socket, BusctlMonitorsIt) {
    const std::string output = bed().folder / "monitored", errors = bed().folder / "monitor-says";
    Process monitor{{"busctl", "--no-pager", "--address=" + address, "monitor"}, bed().environment(), output, errors};
    ASSERT_TRUE(
        run_until([&] { return read_file(errors).find("Monitoring bus message stream") != std::string::npos; }));
    const std::string path = define(client, "monitored");
    EXPECT_TRUE(run_until([&] { return read_file(output).find(path) != std::string::npos; })) << read_file(errors);
    EXPECT_THAT(read_file(output), HasSubstr("InterfacesAdded"));
    monitor.end(SIGTERM);
}

TEST_F(Socket, AutodestroyFollowsAPeer) {
    auto peer = bed().connect_to(address);
    const std::string path = text_of(
        peer->call(root, manager, "CreateDomain", "sa{sv}", test_xml("of-a-peer").c_str(), 1, "autodestroy", "b", 1));
    ASSERT_EQ(state(path), "running");
    peer.reset();
    EXPECT_TRUE(run_until([&] { return state(path) == "org.freedesktop.DBus.Error.UnknownObject"; }));
}

TEST_F(Socket, RubbishInsteadOfAuthentication) {
    const Fd noise = connect_raw(), half = connect_raw(), flood = connect_raw();
    write(noise, std::string(100, '\xfe') + "\r\n");
    write(half, std::string{"\0AUTH", 5});
    write(flood, std::string(1 << 20, 'A'));
    EXPECT_TRUE(run_until([&] { return is_closed(noise) && is_closed(flood); }));
    expect_service();
}

TEST_F(Socket, RubbishInsteadOfMessages) {
    const Fd noise = authenticated();
    write(noise, std::string(4096, '\x55'));
    EXPECT_TRUE(run_until([&] { return is_closed(noise); }));
    const Fd huge = authenticated();
    // A header that announces a body of 4 GiB.
    write(huge, std::string{"l\1\0\1\xff\xff\xff\xff\1\0\0\0\0\0\0\0", 16});
    EXPECT_TRUE(run_until([&] { return is_closed(huge); }));
    const Fd cut = authenticated();
    write(cut, std::string{"l\1\0\1\0\0\0\0\1\0", 10});
    expect_service();
}

TEST_F(Socket, DescriptorsThatNobodyAskedFor) {
    const std::size_t before = open_descriptors();
    {
        const Fd flood = authenticated();
        std::vector<int> many(200, 0);
        std::vector<char> control(CMSG_SPACE(sizeof(int) * many.size()));
        for (int i = 0; i < 20; i++) {
            char byte = i == 0 ? 'l' : '\1';
            iovec part{&byte, 1};
            msghdr message{};
            message.msg_iov = &part;
            message.msg_iovlen = 1;
            message.msg_control = control.data();
            message.msg_controllen = control.size();
            cmsghdr* header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int) * many.size());
            std::memcpy(CMSG_DATA(header), many.data(), sizeof(int) * many.size());
            if (::sendmsg(flood.get(), &message, MSG_NOSIGNAL) < 0) break;
        }
        expect_service();
    }
    EXPECT_TRUE(run_until([&] { return open_descriptors() <= before; })) << "all are closed with the connection";
}

TEST_F(Socket, SoManyConnectionsOfOneUser) {
    std::vector<Fd> sockets;
    for (int i = 0; i < 40; i++) sockets.push_back(connect_raw());
    const auto closed = [&] {
        return std::count_if(sockets.begin(), sockets.end(), [](const Fd& one) { return is_closed(one); });
    };
    EXPECT_TRUE(run_until([&] { return closed() >= 8; }));
    expect_service();
    sockets.clear();
    EXPECT_TRUE(run_until([&] {
        try {
            return bed().connect_to(address)->call(root, "org.freedesktop.DBus.Peer", "Ping").ok();
        } catch (const std::exception&) {
            return false;
        }
    }));
}

}  // namespace
}  // namespace virtbus::tests
