// SPDX-License-Identifier: LGPL-2.1-or-later
// FilterBed: guests' interfaces with network filters, and frames by hand: what a guest sends comes from its tap's
// descriptor, what others get is read from theirs or from the bridge.
#pragma once

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>

#include "network/tap.hpp"
#include "service/host/files.hpp"
#include "service/networking/filters.hpp"
#include "tests/drivers/link_bed.hpp"

namespace virtbus::tests {

using Bytes = std::string;

inline Bytes mac_bytes(const std::string& text) {
    const auto mac = network::parse_mac(text);
    return {mac.begin(), mac.end()};
}
inline Bytes ip_bytes(const std::string& text) {
    in_addr address{};
    ::inet_pton(AF_INET, text.c_str(), &address);
    return {reinterpret_cast<const char*>(&address), sizeof address};
}
inline Bytes number16(unsigned value) {
    return {static_cast<char>(value >> 8), static_cast<char>(value & 0xff)};
}

inline constexpr const char* everybody = "ff:ff:ff:ff:ff:ff";

inline Bytes frame(const std::string& from, const std::string& to, unsigned type, const Bytes& inside) {
    auto out = mac_bytes(to) + mac_bytes(from) + number16(type) + inside;
    if (out.size() < 60) out.resize(60);
    return out;
}
inline Bytes arp(const std::string& from, const std::string& sender_mac, const std::string& sender_ip,
                 const std::string& wanted, unsigned operation = 1, unsigned type = 0x806) {
    return frame(from, everybody, type,
                 number16(1) + number16(0x800) + Bytes{6, 4} + number16(operation) + mac_bytes(sender_mac) +
                     ip_bytes(sender_ip) + Bytes(6, '\0') + ip_bytes(wanted));
}
/// With a checksum, as the host's own IP looks at it.
inline Bytes ipv4(const std::string& from_ip, const std::string& to_ip, unsigned protocol, const Bytes& inside) {
    Bytes header = Bytes{0x45, 0} + number16(static_cast<unsigned>(20 + inside.size())) + number16(7) + number16(0) +
                   Bytes{64, static_cast<char>(protocol)} + number16(0) + ip_bytes(from_ip) + ip_bytes(to_ip);
    unsigned sum = 0;
    for (std::size_t i = 0; i < header.size(); i += 2)
        sum += (static_cast<unsigned char>(header[i]) << 8) + static_cast<unsigned char>(header[i + 1]);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    header.replace(10, 2, number16(~sum & 0xffff));
    return header + inside;
}
/// Long enough that the frame needs no filling, which a bridge may take off an IP packet.
inline Bytes udp(unsigned from, unsigned to, std::string text) {
    text.resize(40, '.');
    return number16(from) + number16(to) + number16(static_cast<unsigned>(8 + text.size())) + number16(0) + text;
}

/// A packet socket on the host's side of the bridge: what the host itself gets.
class HostEars {
public:
    explicit HostEars(const std::string& device) : fd_{::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL))} {
        sockaddr_ll address{};
        address.sll_family = AF_PACKET;
        address.sll_protocol = htons(ETH_P_ALL);
        address.sll_ifindex = static_cast<int>(::if_nametoindex(device.c_str()));
        if (::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
            throw std::runtime_error{"no packet socket"};
    }
    int fd() const { return fd_.get(); }

private:
    Fd fd_;
};

struct FilterBed : LinkBed {
    void SetUp() override {
        LinkBed::SetUp();
        if (IsSkipped()) return;
        // Nothing of the host's own comes in between.
        ASSERT_EQ(std::system("ip link set br0 addrgenmode none 2>/dev/null; ip link set br0 up; "
                              "echo 0 >/sys/class/net/br0/bridge/multicast_snooping; "
                              "echo 0 >/sys/class/net/br0/bridge/forward_delay"),
                  0);
        std::filesystem::create_directories(folder.path() + "/nwfilter");
    }
    void TearDown() override {
        if (!IsSkipped()) (void)std::system("nft delete table bridge virtbus 2>/dev/null");
    }
    struct Card : LinkRequest {
        LinkFilterPtr filter;
    };
    Card card(const std::string& mac, const std::string& filter = "",
              const std::vector<std::pair<std::string, std::string>>& parameters = {}) {
        Card wanted{request(InterfaceType::bridge), nullptr};
        wanted.vnet_header = false;
        wanted.interface.mac = mac;
        if (filter.empty()) return wanted;
        wanted.interface.filterref.emplace();
        wanted.interface.filterref->filter = filter;
        for (const auto& [name, value] : parameters)
            wanted.interface.filterref->parameters.push_back({name, value, {}});
        wanted.filter = run(loop, filters.resolve(wanted.interface, in(patience)));
        return wanted;
    }
    Link open_filtered(const Card& wanted) {
        return run(loop, links.open_filtered(wanted, wanted.filter, in(patience), {}));
    }
    Code refusal_of(const Card& wanted) {
        words.clear();
        try {
            open_filtered(wanted);
        } catch (const Error& error) {
            words = error.what();
            return error.code();
        }
        return Code::internal;
    }
    void define(const std::string& name, const std::string& inside) {
        const auto path = folder.path() + "/nwfilter/" + name + ".xml";
        const auto text = "<filter name='" + name + "'>" + inside + "</filter>";
        const Fd fd{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
        (void)!::write(fd.get(), text.data(), text.size());
    }
    static void send(const Link& guest, const Bytes& bytes) {
        ASSERT_EQ(::write(guest.fds.at(0).get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    }
    /// A frame nobody has anything against, by which is seen that what was sent before it is through or lost.
    static constexpr unsigned mark_type = 0x88b5;
    /// What comes out there until `mark` does.
    static std::vector<Bytes> heard(int fd, const Bytes& mark) {
        std::vector<Bytes> out;
        for (;;) {
            pollfd ready{fd, POLLIN, 0};
            if (::poll(&ready, 1, 20'000) != 1) {
                ADD_FAILURE() << "the mark did not come";
                return out;
            }
            Bytes bytes(4096, '\0');
            const auto size = ::read(fd, bytes.data(), bytes.size());
            if (size <= 0) continue;
            bytes.resize(static_cast<std::size_t>(size));
            if (bytes == mark) return out;
            out.push_back(std::move(bytes));
        }
    }
    static bool contains(const std::vector<Bytes>& all, const Bytes& one) {
        return std::ranges::find(all, one) != all.end();
    }
    /// The mark comes from a third port, which has no filter.
    Bytes mark() {
        const auto bytes = frame("52:54:00:ee:ee:ee", everybody, mark_type, number16(++marks_));
        send(*marker, bytes);
        return bytes;
    }
    void open_marker() { marker = open(card("52:54:00:ee:ee:ee")); }
    static std::string rules() { return output_of("nft list table bridge virtbus 2>&1"); }

    TemporaryFolder folder;
    host::LinuxFiles files{workers, workers};
    NetworkFilters filters{files, std::vector<std::string>{folder.path() + "/nwfilter", SHIPPED_FILTERS}};
    std::optional<Link> marker;

private:
    unsigned marks_ = 0;
};

}  // namespace virtbus::tests
