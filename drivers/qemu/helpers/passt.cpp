// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/helpers/passt.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>

#include "qemu/opening.hpp"

namespace virtbus::qemu {

namespace {

// ---- its line

std::string ports_of(const PortForward& forward) {
    std::string text = forward.address;
    if (!forward.dev.empty()) text += "%" + forward.dev;
    if (!text.empty()) text += "/";
    if (forward.ranges.empty()) return text + "all";
    const char* comma = "";
    for (const auto& range : forward.ranges) {
        const auto end = range.end.value_or(range.start);
        text += fmt::format("{}{}{}", std::exchange(comma, ","), range.exclude.value_or(false) ? "~" : "", range.start);
        if (range.end) text += fmt::format("-{}", end);
        if (range.to) text += fmt::format(":{}", *range.to);
        if (range.to && range.end) text += fmt::format("-{}", *range.to + (end - range.start));
    }
    return text;
}

// ---- what is said to it

using Bytes = std::vector<std::uint8_t>;

[[noreturn]] void fail(const std::string& why) {
    throw Error{Code::hypervisor_failed, why};
}

void add(Bytes& bytes, std::initializer_list<int> more) {
    for (const int byte : more) bytes.push_back(static_cast<std::uint8_t>(byte));
}
void add(Bytes& bytes, const Bytes& more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
}

Bytes address_of(const std::string& mac) {
    Bytes bytes;
    for (std::size_t at = 0; at + 2 <= mac.size() && bytes.size() < 6; at += 3)
        bytes.push_back(static_cast<std::uint8_t>(std::strtoul(mac.substr(at, 2).c_str(), nullptr, 16)));
    bytes.resize(6);
    return bytes;
}

/// "Has anybody this address?", as a card asks before it has one of its own.
Bytes arp_probe(const Bytes& mac) {
    Bytes frame(6, 0xff);
    add(frame, mac);
    add(frame, {0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1});
    add(frame, mac);
    add(frame, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 169, 254, 254, 254});
    return frame;
}

void write_checksum(Bytes& message, const Bytes& addresses, std::size_t at) {
    constexpr int icmpv6 = 58;
    auto all = addresses;
    add(all, {0, 0, 0, static_cast<int>(message.size()), 0, 0, 0, icmpv6});
    add(all, message);
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < all.size(); i += 2) sum += static_cast<std::uint32_t>(all[i] << 8 | all[i + 1]);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    message[at] = static_cast<std::uint8_t>(~sum >> 8);
    message[at + 1] = static_cast<std::uint8_t>(~sum);
}

/// The same where there is IPv6 only.
Bytes neighbour_solicitation(const Bytes& mac) {
    Bytes addresses{0xfe, 0x80, 0, 0, 0, 0, 0, 0};
    add(addresses, {mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]});
    add(addresses, {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1});
    Bytes message{135, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1};
    add(message, mac);
    write_checksum(message, addresses, 2);
    Bytes frame{0x33, 0x33, 0xff, 0, 0, 1};
    add(frame, mac);
    add(frame, {0x86, 0xdd, 0x60, 0, 0, 0, 0, static_cast<int>(message.size()), 58, 255});
    add(frame, addresses);
    add(frame, message);
    return frame;
}

void say(const Fd& cable, const Bytes& frame) {
    Bytes said{0, 0, 0, static_cast<std::uint8_t>(frame.size())};
    add(said, frame);
    if (::send(cable.get(), said.data(), said.size(), MSG_NOSIGNAL | MSG_DONTWAIT) != static_cast<ssize_t>(said.size()))
        fail(errno == EPIPE ? "it ended" : "it takes nothing");
}

Bytes hear(const Fd& cable, std::size_t size, Deadline deadline, Duration patience) {
    Bytes heard(size);
    std::size_t have = 0;
    while (have < size) {
        const auto left = std::chrono::ceil<Duration>(deadline - std::chrono::steady_clock::now());
        pollfd state{cable.get(), POLLIN, 0};
        if (left.count() <= 0 || ::poll(&state, 1, static_cast<int>(left.count())) == 0)
            fail(fmt::format("it did not answer within {} ms", patience.count()));
        const auto got = ::recv(cable.get(), heard.data() + have, size - have, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got <= 0) fail("it ended");
        have += static_cast<std::size_t>(got);
    }
    return heard;
}

/// It reads when all its ports are bound. Frames are taken as a whole, as QEMU is the next to read.
void require_answer(const Fd& cable, const std::string& mac, Duration patience) {
    constexpr std::size_t shortest = 14, longest = 65550;
    const auto card = address_of(mac);
    say(cable, arp_probe(card));
    say(cable, neighbour_solicitation(card));
    const auto deadline = in(patience);
    pollfd more{cable.get(), POLLIN, 0};
    do {
        const auto length = hear(cable, 4, deadline, patience);
        const auto size = static_cast<std::size_t>(length[0]) << 24 | static_cast<std::size_t>(length[1]) << 16 |
                          static_cast<std::size_t>(length[2]) << 8 | length[3];
        if (size < shortest || size > longest) fail("what it says are no Ethernet frames");
        hear(cable, size, deadline, patience);
    } while (::poll(&more, 1, 0) == 1);
}

}  // namespace

bool needs_passt(const Interface& interface) {
    return interface.type == InterfaceType::user && interface.backend && interface.backend->type == "passt";
}

std::vector<std::string> passt_words(const std::string& program, const Interface& interface) {
    std::vector<std::string> words{program, "--foreground", "--fd", "3"};
    const auto add_option = [&](const char* option, std::string value) {
        words.insert(words.end(), {option, std::move(value)});
    };
    // Without a log of its own what it says last should be what has gone wrong.
    if (interface.backend && interface.backend->log_file.empty()) words.emplace_back("--quiet");
    if (interface.mtu) add_option("--mtu", std::to_string(*interface.mtu));
    if (interface.source && !interface.source->dev.empty()) add_option("--interface", interface.source->dev);
    for (const auto& ip : interface.ips) {
        add_option("--address", ip.address);
        if (ip.prefix && ip.address.find(':') == ip.address.npos) add_option("--netmask", std::to_string(*ip.prefix));
    }
    for (const auto& forward : interface.port_forwards)
        add_option(forward.proto == "udp" ? "--udp-ports" : "--tcp-ports", ports_of(forward));
    return words;
}

Task<Fd> UserNetwork::run_on_cable(const HelperOrder& order, const Interface& interface, const std::string& program) {
    auto [ours, theirs] = helper_socket_pair();
    UnitRequest request;
    request.helper = "passt_" + interface.info.alias;
    request.description = fmt::format("Network of virtual machine {}", order.domain);
    request.argv = passt_words(program, interface);
    request.fds = {{theirs.get(), 3}};
    request.network = true;
    co_await run(order, {.program = "passt", .alias = interface.info.alias}, std::move(request));
    theirs = Fd{};  // its end is seen at ours
    co_await converse(order, ours, [mac = interface.mac, patience = times_.answer](const Fd& fd) {
        require_answer(fd, mac, patience);
    });
    co_return std::move(ours);
}

Task<Fd> UserNetwork::start(HelperOrder order, Interface interface, std::string program) {
    if (!interface.backend->log_file.empty()) order.log = interface.backend->log_file;
    co_return co_await or_undo(run_on_cable(order, interface, program));
}

}  // namespace virtbus::qemu
