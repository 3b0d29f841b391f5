// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/helpers/tpm_talk.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

// The emulator's control commands; TPM commands and their answers travel over the descriptor of the last.
enum class Control : std::uint32_t { get_capability = 1, init = 2, set_data_fd = 16 };

constexpr std::size_t longest_answer = 4096;
constexpr std::size_t header_size = 10;  // of every TPM answer: tag, length, code

[[noreturn]] void fail(const std::string& why) {
    throw Error{Code::hypervisor_failed, why};
}

void put(std::string& bytes, std::uint64_t value, int width) {
    for (int i = width - 1; i >= 0; --i) bytes += static_cast<char>(value >> 8 * i & 0xff);
}

std::uint32_t word_at(std::string_view bytes, std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
    return value;
}

/// One end of a conversation in which each side waits for the other.
class Talk {
public:
    Talk(const Fd& fd, Duration patience) : fd_{fd}, deadline_{in(patience)}, patience_{patience} {}

    void say(std::string_view bytes, int with_fd = -1) {
        std::array<char, CMSG_SPACE(sizeof(int))> space{};
        iovec part{const_cast<char*>(bytes.data()), bytes.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (with_fd >= 0) {
            message.msg_control = space.data();
            message.msg_controllen = space.size();
            auto* header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int));
            std::memcpy(CMSG_DATA(header), &with_fd, sizeof with_fd);
        }
        // What is said is shorter than any socket's buffer.
        const auto sent = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent != static_cast<ssize_t>(bytes.size()))
            fail(sent < 0 && errno == EPIPE ? "it ended" : "it takes nothing");
    }

    std::string hear(std::size_t size) {
        std::string heard(size, '\0');
        std::size_t have = 0;
        while (have < size) {
            wait();
            const auto got = ::recv(fd_.get(), heard.data() + have, size - have, MSG_DONTWAIT);
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (got <= 0) fail("it ended");
            have += static_cast<std::size_t>(got);
        }
        return heard;
    }

    /// More was said than belongs to the answer.
    bool is_talkative() const {
        char next = 0;
        return ::recv(fd_.get(), &next, 1, MSG_DONTWAIT | MSG_PEEK) > 0;
    }

private:
    void wait() {
        const auto left = std::chrono::ceil<Duration>(deadline_ - std::chrono::steady_clock::now());
        pollfd state{fd_.get(), POLLIN, 0};
        if (left.count() <= 0 || ::poll(&state, 1, static_cast<int>(left.count())) == 0)
            fail(fmt::format("it did not answer within {} ms", patience_.count()));
    }

    const Fd& fd_;
    Deadline deadline_;
    Duration patience_;
};

std::string control_message(Control command) {
    std::string message;
    put(message, static_cast<std::uint32_t>(command), 4);
    return message;
}

void require_ok(const std::string& answer, const char* asked) {
    if (const auto code = word_at(answer, 0)) fail(fmt::format("it answered {} with the error {:#x}", asked, code));
}

void execute(Talk& tpm, const std::string& command, const char* name) {
    tpm.say(command);
    auto answer = tpm.hear(header_size);
    const auto size = word_at(answer, 2);
    if (size < header_size || size > longest_answer) fail(fmt::format("its answer to {} is no answer of a TPM", name));
    tpm.hear(size - header_size);
    if (const auto code = word_at(answer, 6)) fail(fmt::format("the TPM answered {} with the error {:#x}", name, code));
}

std::string startup_or_shutdown(std::uint32_t code) {
    std::string command;
    put(command, 0x8001, 2);  // without sessions
    put(command, 12, 4);
    put(command, code, 4);
    put(command, 0, 2);  // CLEAR
    return command;
}

std::string pcr_allocate(const TpmBackend& banks) {
    constexpr std::array<std::pair<std::uint16_t, bool TpmBackend::*>, 4> algorithms{{{0x0004, &TpmBackend::sha1},
                                                                                      {0x000b, &TpmBackend::sha256},
                                                                                      {0x000c, &TpmBackend::sha384},
                                                                                      {0x000d, &TpmBackend::sha512}}};
    std::string rest;
    put(rest, 0x0000012b, 4);
    put(rest, 0x4000000c, 4);  // by the platform, whose password nobody has set yet
    put(rest, 9, 4);           // of its authorization: an empty password
    put(rest, 0x40000009, 4);
    put(rest, 0, 5);
    put(rest, algorithms.size(), 4);
    for (const auto& [algorithm, wanted] : algorithms) {
        put(rest, algorithm, 2);
        put(rest, 3, 1);  // bytes of the selection: all 24 registers or none
        put(rest, banks.*wanted ? 0xffffff : 0, 3);
    }
    std::string command;
    put(command, 0x8002, 2);  // with sessions
    put(command, 6 + rest.size(), 4);
    return command + rest;
}

}  // namespace

void require_tpm_answers(const Fd& control, Duration patience) {
    Talk talk{control, patience};
    talk.say(control_message(Control::get_capability));
    const auto answer = talk.hear(8);
    if (word_at(answer, 0) != 0 || word_at(answer, 4) == 0 || talk.is_talkative())
        fail("what it says is no answer of a TPM emulator");
}

void allocate_pcr_banks(const Fd& control, const TpmBackend& banks, Duration patience) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) < 0)
        fail(fmt::format("no socket for the TPM's data: {}", std::strerror(errno)));
    const Fd ours{ends[0]};
    Fd theirs{ends[1]};
    Talk talk{control, patience};
    talk.say(control_message(Control::set_data_fd), theirs.get());
    theirs = Fd{};
    require_ok(talk.hear(4), "set-data-fd");
    auto init = control_message(Control::init);
    put(init, 0, 4);
    talk.say(init);
    require_ok(talk.hear(4), "init");
    Talk tpm{ours, patience};
    execute(tpm, startup_or_shutdown(0x144), "startup");
    execute(tpm, pcr_allocate(banks), "pcr-allocate");
    execute(tpm, startup_or_shutdown(0x145), "shutdown");
}

}  // namespace virtbus::qemu
