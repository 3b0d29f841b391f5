// SPDX-License-Identifier: LGPL-2.1-or-later
// Who has the ports of DNS, DHCP and TFTP. Whether dnsmasq could have them too depends on options of both sockets that
// the kernel does not show, so it is tried with those that dnsmasq uses; who is in the way is asked afterwards.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "network/host_facts.hpp"
#include "network/netlink.hpp"
#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::network {

namespace {

namespace fs = std::filesystem;

constexpr std::uint16_t dns_port = 53, dhcp_port = 67, tftp_port = 69, dhcp6_port = 547;

struct Wanted {
    const char* service;
    int type;  ///< SOCK_STREAM, SOCK_DGRAM
    std::uint16_t port;
    Ip address;              ///< all zeros: any
    bool on_device = false;  ///< bound to the bridge alone
};

std::vector<Wanted> wanted_of(const NetworkConfig& config) {
    std::vector<Wanted> wanted;
    const bool dns = !config.dns || config.dns->enable.value_or(true);
    for (const auto& ip : config.ips) {
        const auto address = net_of(ip).address;
        if (dns)
            for (const int type : {SOCK_DGRAM, SOCK_STREAM}) wanted.push_back({"DNS", type, dns_port, address});
        if (!ip.tftp_root.empty()) wanted.push_back({"TFTP", SOCK_DGRAM, tftp_port, address});
        if (!ip.dhcp) continue;
        Ip any;
        any.v6 = address.v6;
        wanted.push_back({"DHCP", SOCK_DGRAM, any.v6 ? dhcp6_port : dhcp_port, any, true});
    }
    return wanted;
}

void set_option(int fd, int level, int option) {
    const int one = 1;
    // An option that this kernel does not have leaves the trial stricter, which is the safe side.
    (void)::setsockopt(fd, level, option, &one, sizeof one);
}

enum class Trial { free, taken, unknown };

/// Binds for a moment as dnsmasq will: DNS may share with who allows it, DHCP with others that are on devices of
/// theirs. The bridge is not there yet; the loopback device, which nobody serves DHCP on, stands in for it.
Trial try_it(const Wanted& wanted) {
    const int family = wanted.address.v6 ? AF_INET6 : AF_INET;
    const Fd socket{::socket(family, wanted.type | SOCK_CLOEXEC, 0)};
    if (!socket) return Trial::unknown;
    set_option(socket.get(), SOL_SOCKET, wanted.on_device ? SO_REUSEPORT : SO_REUSEADDR);
    constexpr char loopback[] = "lo";
    if (wanted.on_device && ::setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, loopback, sizeof loopback) != 0)
        return Trial::unknown;
    int status = 0;
    if (wanted.address.v6) {
        set_option(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY);
        set_option(socket.get(), IPPROTO_IPV6, IPV6_FREEBIND);
        sockaddr_in6 name{};
        name.sin6_family = AF_INET6;
        name.sin6_port = htons(wanted.port);
        std::memcpy(&name.sin6_addr, wanted.address.bytes.data(), sizeof name.sin6_addr);
        status = ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name);
    } else {
        set_option(socket.get(), IPPROTO_IP, IP_FREEBIND);
        sockaddr_in name{};
        name.sin_family = AF_INET;
        name.sin_port = htons(wanted.port);
        std::memcpy(&name.sin_addr, wanted.address.bytes.data(), sizeof name.sin_addr);
        status = ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name);
    }
    if (status == 0) return Trial::free;
    return errno == EADDRINUSE ? Trial::taken : Trial::unknown;
}

struct Server {
    Ip address;
    std::uint32_t device = 0;  ///< 0: any
    std::uint32_t inode = 0;
    bool v6_only = false;
};

int see_server(nl_msg* message, void* to) {
    const auto* header = nlmsg_hdr(message);
    if (nlmsg_datalen(header) < static_cast<int>(sizeof(inet_diag_msg))) return NL_OK;
    const auto* found = static_cast<const inet_diag_msg*>(nlmsg_data(header));
    Server server;
    server.address.v6 = found->idiag_family == AF_INET6;
    std::memcpy(server.address.bytes.data(), found->id.idiag_src, server.address.v6 ? 16 : 4);
    server.device = found->id.idiag_if;
    server.inode = found->idiag_inode;
    if (const auto* only = nlmsg_find_attr(const_cast<nlmsghdr*>(header), sizeof *found, INET_DIAG_SKV6ONLY))
        server.v6_only = nla_get_u8(only) != 0;
    static_cast<std::vector<Server>*>(to)->push_back(server);
    return NL_OK;
}

/// Nothing on a kernel that cannot tell.
void collect_servers(std::uint8_t family, const Wanted& wanted, std::vector<Server>& servers) {
    const Socket socket{nl_socket_alloc()};
    if (!socket || nl_connect(socket.get(), NETLINK_SOCK_DIAG) < 0) return;
    inet_diag_req_v2 request{};
    request.sdiag_family = family;
    request.sdiag_protocol = wanted.type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    request.idiag_states = wanted.type == SOCK_STREAM ? 1U << TCP_LISTEN : ~0U;
    // Only those on that port: the kernel's little program for it, "equal, else past the end".
    constexpr unsigned char step = sizeof(inet_diag_bc_op);
    const std::array<inet_diag_bc_op, 2> filter{{{INET_DIAG_BC_S_EQ, 2 * step, 3 * step}, {0, 0, wanted.port}}};
    Message message{nlmsg_alloc_simple(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP)};
    if (!message || nlmsg_append(message.get(), &request, sizeof request, NLMSG_ALIGNTO) < 0 ||
        nla_put(message.get(), INET_DIAG_REQ_BYTECODE, sizeof filter, filter.data()) < 0)
        return;
    nl_socket_modify_cb(socket.get(), NL_CB_VALID, NL_CB_CUSTOM, see_server, &servers);
    if (nl_send_auto(socket.get(), message.get()) >= 0) (void)nl_recvmsgs_default(socket.get());
}

bool is_any(const Ip& address) {
    return address.bytes == Ip{}.bytes;
}

/// Its address takes in the one that is wanted.
bool in_the_way(const Server& server, const Wanted& wanted) {
    if (wanted.on_device && server.device) return false;
    if (server.address.v6 == wanted.address.v6)
        return server.address == wanted.address || is_any(server.address) || is_any(wanted.address);
    return server.address.v6 && is_any(server.address) && !server.v6_only;
}

std::vector<Server> servers_in_the_way(const Wanted& wanted) {
    std::vector<Server> servers;
    if (!wanted.address.v6) collect_servers(AF_INET, wanted, servers);
    collect_servers(AF_INET6, wanted, servers);
    std::erase_if(servers, [&wanted](const Server& server) { return !in_the_way(server, wanted); });
    return servers;
}

/// "process 'named' (812)", or nothing: looking into others' processes may not be permitted.
std::string process_with(std::uint32_t inode) {
    constexpr int most_processes = 65536;
    const auto socket = fmt::format("socket:[{}]", inode);
    std::error_code error;
    int seen = 0;
    for (const auto& process : fs::directory_iterator{"/proc", error}) {
        const auto pid = process.path().filename().string();
        if (!std::ranges::all_of(pid, [](char c) { return c >= '0' && c <= '9'; })) continue;
        if (++seen > most_processes) break;
        std::error_code denied;
        for (fs::directory_iterator file{process.path() / "fd", denied}, end; !denied && file != end;
             file.increment(denied)) {
            std::error_code gone;
            if (fs::read_symlink(file->path(), gone) != socket) continue;
            std::string name;
            std::getline(std::ifstream{process.path() / "comm"}, name);
            return fmt::format("process '{}' ({})", name, pid);
        }
    }
    return {};
}

[[noreturn]] void refuse(const NetworkConfig& config, const Wanted& wanted, const std::vector<Server>& servers) {
    std::string who;
    for (const auto& server : servers)
        if (who.empty() && server.inode) who = process_with(server.inode);
    const auto where = servers.empty()              ? std::string{}
                       : is_any(servers[0].address) ? " on all addresses of the host"
                                                    : fmt::format(" on {}", servers[0].address.text());
    throw Error{Code::unsupported_configuration,
                fmt::format("network '{}' cannot serve {}: {} port {} is taken{} by {}; stop that server or bind it to "
                            "addresses of its own",
                            config.name, wanted.service, wanted.type == SOCK_STREAM ? "TCP" : "UDP", wanted.port, where,
                            who.empty() ? "another process" : who)};
}

}  // namespace

void require_free_ports(const NetworkConfig& config) {
    if (!is_virtual(forward_mode(config))) return;
    for (const auto& wanted : wanted_of(config)) {
        const auto trial = try_it(wanted);
        if (trial == Trial::free) continue;
        auto servers = servers_in_the_way(wanted);
        // Without the right to try, a DHCP server may be one that shares its port; dnsmasq will tell.
        if (trial == Trial::taken || (!wanted.on_device && !servers.empty())) refuse(config, wanted, servers);
    }
}

}  // namespace virtbus::network
