// SPDX-License-Identifier: LGPL-2.1-or-later
#include "launch/protocol.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "virtbus/error.hpp"

namespace virtbus::systemd {

namespace {

constexpr std::uint32_t magic = 0x4c425456;  // "VTBL"
constexpr std::size_t max_strings = 16384;
constexpr std::size_t max_groups = 1024;

/// Opens every packet; `first` is the index of the packet's first descriptor.
struct Header {
    std::uint32_t magic, version, body_size, fd_count, first;
};

struct StartedPacket {
    std::uint32_t magic, pid;
};

[[noreturn]] void fail_errno(const std::string& what) {
    throw Error{Code::internal, what + ": " + std::strerror(errno)};
}
[[noreturn]] void malformed(const std::string& what) {
    throw Error{Code::invalid_args, "The launch order is malformed: " + what};
}

class Writer {
public:
    template <class T>
    void number(T value) {
        bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    void text(const std::string& value) {
        if (value.find('\0') != std::string::npos) malformed("a word contains a zero byte");
        number(static_cast<std::uint32_t>(value.size()));
        bytes += value;
    }
    void texts(const std::vector<std::string>& values) {
        if (values.size() > max_strings) throw Error{Code::limits_exceeded, "A launch order takes at most 16384 words"};
        number(static_cast<std::uint32_t>(values.size()));
        for (const auto& value : values) text(value);
    }
    std::string bytes;
};

class Reader {
public:
    explicit Reader(std::string_view bytes) : left_{bytes} {}
    template <class T>
    T number() {
        if (left_.size() < sizeof(T)) malformed("it is cut short");
        T value;
        std::memcpy(&value, left_.data(), sizeof value);
        left_.remove_prefix(sizeof value);
        return value;
    }
    std::string text() {
        const auto size = number<std::uint32_t>();
        if (left_.size() < size) malformed("it is cut short");
        std::string value{left_.substr(0, size)};
        if (value.find('\0') != std::string::npos) malformed("a word contains a zero byte");
        left_.remove_prefix(size);
        return value;
    }
    std::size_t count(std::size_t most) {
        const auto value = number<std::uint32_t>();
        if (value > most) malformed("a list is too long");
        return value;
    }
    std::vector<std::string> texts() {
        std::vector<std::string> values(count(max_strings));
        for (auto& value : values) value = text();
        return values;
    }
    bool done() const { return left_.empty(); }

private:
    std::string_view left_;
};

void require_numbers(const std::vector<std::pair<int, int>>& fds) {
    if (fds.size() > launch_max_fds) throw Error{Code::limits_exceeded, "A guest takes at most 1000 descriptors"};
    std::vector<int> numbers;
    for (const auto& [here, there] : fds) {
        if (there < 3 || there >= launch_max_number) malformed("descriptor number " + std::to_string(there));
        numbers.push_back(there);
    }
    std::ranges::sort(numbers);
    if (std::ranges::adjacent_find(numbers) != numbers.end()) malformed("a descriptor number is given twice");
}

Fd sealed_memory(std::string_view content) {
    Fd memory{::memfd_create("virtbus-launch", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (!memory) fail_errno("Creating memory for the launch order");
    while (!content.empty()) {
        const auto written = ::write(memory.get(), content.data(), content.size());
        if (written < 0) fail_errno("Writing the launch order");
        content.remove_prefix(static_cast<std::size_t>(written));
    }
    ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    return memory;
}

std::string content_of(int memory, std::size_t size) {
    std::string content(size, '\0');
    std::size_t done = 0;
    while (done < size) {
        const auto got = ::pread(memory, content.data() + done, size - done, static_cast<off_t>(done));
        if (got < 0) fail_errno("Reading the launch order");
        if (got == 0) malformed("it is cut short");
        done += static_cast<std::size_t>(got);
    }
    return content;
}

/// One packet with descriptors, never waiting.
void send_packet(int socket, const void* data, std::size_t size, std::span<const int> fds) {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(launch_fds_per_packet * sizeof(int))> control{};
    iovec part{const_cast<void*>(data), size};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(fds.size_bytes());
        auto* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
    }
    if (::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) fail_errno("Sending to the launcher");
}

/// One packet; its size, or -1 with errno. Descriptors are appended to `fds`.
ssize_t receive_packet(int socket, void* data, std::size_t size, std::vector<Fd>& fds, int flags) {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(launch_fds_per_packet * sizeof(int))> control{};
    iovec part{data, size};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t got = 0;
    do got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
    while (got < 0 && errno == EINTR);
    if (got < 0) return got;
    for (auto* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        for (std::size_t at = 0; at + CMSG_LEN(sizeof(int)) <= header->cmsg_len; at += sizeof(int)) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(header) + at, sizeof fd);
            fds.emplace_back(fd);
        }
    }
    if (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) malformed("a packet was cut off");
    return got;
}

}  // namespace

std::string encode(const LaunchOrder& order) {
    if (order.argv.empty() || !order.argv.front().starts_with('/')) malformed("the program is no absolute path");
    require_numbers(order.fds);
    Writer out;
    out.texts(order.argv);
    out.texts(order.environment);
    out.number(static_cast<std::uint32_t>(order.fds.size()));
    for (const auto& [here, there] : order.fds) out.number(static_cast<std::int32_t>(there));
    out.number<std::uint8_t>(order.output >= 0);
    out.number<std::uint8_t>(order.account.has_value());
    if (order.account) {
        out.number(order.account->uid);
        out.number(order.account->gid);
        if (order.account->groups.size() > max_groups) throw Error{Code::limits_exceeded, "Too many groups"};
        out.number(static_cast<std::uint32_t>(order.account->groups.size()));
        for (const auto group : order.account->groups) out.number(group);
    }
    out.number(order.memory_locked);
    if (out.bytes.size() > launch_max_body)
        throw Error{Code::limits_exceeded, "The command line and environment of a guest take at most 4 MiB"};
    return std::move(out.bytes);
}

LaunchOrder decode(std::string_view body) {
    if (body.size() > launch_max_body) malformed("it is too long");
    Reader in{body};
    LaunchOrder order;
    order.argv = in.texts();
    order.environment = in.texts();
    order.fds.resize(in.count(launch_max_fds));
    for (auto& [here, there] : order.fds) {
        here = -1;
        there = in.number<std::int32_t>();
    }
    order.output = in.number<std::uint8_t>() ? 0 : -1;
    if (in.number<std::uint8_t>()) {
        Account account;
        account.uid = in.number<std::uint32_t>();
        account.gid = in.number<std::uint32_t>();
        account.groups.resize(in.count(max_groups));
        for (auto& group : account.groups) group = in.number<std::uint32_t>();
        order.account = std::move(account);
    }
    order.memory_locked = in.number<std::uint64_t>();
    if (!in.done()) malformed("bytes are left over");
    if (order.argv.empty() || !order.argv.front().starts_with('/')) malformed("the program is no absolute path");
    require_numbers(order.fds);
    return order;
}

void send_order(int socket, const LaunchOrder& order) {
    const auto body = encode(order);
    const auto memory = sealed_memory(body);
    std::vector<int> fds{memory.get(), order.report};
    if (order.output >= 0) fds.push_back(order.output);
    for (const auto& [here, there] : order.fds) fds.push_back(here);
    Header header{magic, launch_version, static_cast<std::uint32_t>(body.size()),
                  static_cast<std::uint32_t>(fds.size()), 0};
    for (std::span<const int> left{fds}; !left.empty();) {
        const auto packet = left.first(std::min(left.size(), launch_fds_per_packet));
        send_packet(socket, &header, sizeof header, packet);
        header.first += static_cast<std::uint32_t>(packet.size());
        left = left.subspan(packet.size());
    }
}

ReceivedOrder receive_order(int socket) {
    std::vector<Fd> fds;
    Header header{};
    do {
        const auto before = fds.size();
        const auto got = receive_packet(socket, &header, sizeof header, fds, 0);
        if (got < 0) fail_errno("Receiving the launch order");
        if (got == 0) malformed("the daemon closed the socket");
        if (got != sizeof header || header.magic != magic) malformed("this is no launch order");
        if (header.version != launch_version)
            malformed("its version is " + std::to_string(header.version) + ", this launcher knows version " +
                      std::to_string(launch_version));
        if (header.first != before || header.fd_count > launch_max_fds + 3 || header.body_size > launch_max_body ||
            fds.size() == before || fds.size() > header.fd_count)
            malformed("its counts do not agree");
    } while (fds.size() < header.fd_count);

    ReceivedOrder received{decode(content_of(fds.front().get(), header.body_size)), {}};
    auto& order = received.order;
    if (fds.size() != order.fds.size() + (order.output >= 0 ? 3 : 2)) malformed("its descriptors do not agree");
    auto next = fds.begin() + 1;
    order.report = (next++)->get();
    if (order.output >= 0) order.output = (next++)->get();
    for (auto& [here, there] : order.fds) here = (next++)->get();
    received.owned = std::move(fds);
    return received;
}

void send_started(int report) {
    const StartedPacket packet{magic, static_cast<std::uint32_t>(::getpid())};
    const Fd self{static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0))};
    if (!self) fail_errno("Opening a pidfd");
    send_packet(report, &packet, sizeof packet, std::array{self.get()});
}

std::optional<Report> receive_report(int report) {
    std::array<char, 4096> text{};
    std::vector<Fd> fds;
    const auto got = receive_packet(report, text.data(), text.size(), fds, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return std::nullopt;
    Report result;
    if (got < 0) {
        result.failure = std::string{"the launcher's report cannot be read: "} + std::strerror(errno);
    } else if (!fds.empty()) {
        StartedPacket packet{};
        if (got != sizeof packet) malformed("the launcher's report has a wrong size");
        std::memcpy(&packet, text.data(), sizeof packet);
        result.started = Started{packet.pid, std::move(fds.front())};
    } else {
        result.failure.assign(text.data(), static_cast<std::size_t>(got));
    }
    return result;
}

}  // namespace virtbus::systemd
