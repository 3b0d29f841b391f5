// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/backup/clients.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/filter.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace virtbus::qemu {

namespace {

constexpr std::size_t most_sockets = 1U << 20;

/// Whether a line of a table below /proc/net is what is looked for; it is given with its fields.
template <class F>
bool any_line(const char* table, F wanted) {
    std::ifstream file{table};
    std::string line;
    for (std::size_t i = 0; i < most_sockets && std::getline(file, line); ++i) {
        std::istringstream in{line};
        std::vector<std::string> fields;
        for (std::string field; in >> field;) fields.push_back(std::move(field));
        if (wanted(line, fields)) return true;
    }
    return false;
}

/// Num, RefCount, Protocol, Flags, Type, St, Inode, Path: an accepted socket has the path of the one it came through.
bool has_unix_clients(const std::string& path) {
    constexpr std::string_view connected = "03";
    return any_line("/proc/thread-self/net/unix", [&](const std::string& line, const std::vector<std::string>& fields) {
        return fields.size() > 7 && fields[5] == connected && line.ends_with(" " + path);
    });
}

/// sl, local_address, rem_address, st: with the port in hexadecimal digits at the end.
bool has_tcp_clients(std::uint16_t port) {
    constexpr std::string_view listens = "0A", waits_for_time = "06", closed = "07";
    const auto end = fmt::format(":{:04X}", port);
    return std::ranges::any_of(
        std::array{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"}, [&](const char* table) {
            return any_line(table, [&](const std::string&, const std::vector<std::string>& fields) {
                return fields.size() > 3 && fields[1].ends_with(end) && fields[3] != listens &&
                       fields[3] != waits_for_time && fields[3] != closed;
            });
        });
}

union Address {
    sockaddr any;
    sockaddr_in four;
    sockaddr_in6 six;
    sockaddr_un local;
};

Address address_of(const Fd& socket) {
    Address address{};
    socklen_t length = sizeof address - 1;
    if (::getsockname(socket.get(), &address.any, &length) != 0) address.any.sa_family = AF_UNSPEC;
    return address;
}

}  // namespace

void close_door(const Fd& listener) {
    // Shutting it down would make QEMU turn around it without rest.
    sock_filter nothing{BPF_RET | BPF_K, 0, 0, 0};
    const sock_fprog program{1, &nothing};
    ::setsockopt(listener.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

bool has_clients(const Fd& listener) {
    const auto address = address_of(listener);
    switch (address.any.sa_family) {
        case AF_UNIX:
            return has_unix_clients(address.local.sun_path);
        case AF_INET:
            return has_tcp_clients(ntohs(address.four.sin_port));
        case AF_INET6:
            return has_tcp_clients(ntohs(address.six.sin6_port));
        default:
            return true;
    }
}

}  // namespace virtbus::qemu
