// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/helpers/vhost_user.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <map>
#include <nlohmann/json.hpp>

#include "qemu/json.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::size_t longest_descriptor = 64 << 10;
constexpr std::uint32_t get_features = 1;
constexpr std::uint32_t protocol_version = 1, is_reply = 4;

/// The program of a descriptor of that type; "" when it is of something else, or none.
std::string program_of(std::string_view descriptor, std::string_view type) {
    try {
        const auto content = parse_json(descriptor);
        auto program = text(content, "binary");
        return text(content, "type") == type && program.starts_with('/') ? program : std::string{};
    } catch (const Error&) {
        return {};
    }
}

}  // namespace

std::vector<std::string> vhost_user_programs(Files& files, const std::vector<std::string>& folders,
                                             std::string_view type) {
    std::map<std::string, std::string> by_name;
    for (const auto& folder : folders)
        for (const auto& name : files.list(folder))
            if (name.ends_with(".json"))
                by_name[name] = program_of(files.read(folder + "/" + name, longest_descriptor).value_or(""), type);
    std::vector<std::string> programs;
    for (auto& [name, program] : by_name)
        if (!program.empty()) programs.push_back(std::move(program));
    return programs;
}

void require_vhost_user(const Fd& fd, Duration patience) {
    const auto fail = [](const std::string& why) { throw Error{Code::hypervisor_failed, why}; };
    const std::array<std::uint32_t, 3> question{get_features, protocol_version, 0};
    if (::send(fd.get(), question.data(), sizeof question, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof question)
        fail("it ended");
    std::array<std::uint32_t, 5> answer{};
    std::size_t have = 0;
    const auto deadline = in(patience);
    while (have < sizeof answer) {
        const auto left = std::chrono::ceil<Duration>(deadline - std::chrono::steady_clock::now());
        pollfd state{fd.get(), POLLIN, 0};
        if (left.count() <= 0 || ::poll(&state, 1, static_cast<int>(left.count())) == 0)
            fail(fmt::format("it did not answer within {} ms", patience.count()));
        const auto got =
            ::recv(fd.get(), reinterpret_cast<char*>(answer.data()) + have, sizeof answer - have, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got <= 0) fail("it ended");
        have += static_cast<std::size_t>(got);
    }
    char next = 0;
    const bool talkative = ::recv(fd.get(), &next, 1, MSG_DONTWAIT | MSG_PEEK) > 0;
    if (answer[0] != get_features || answer[1] != (protocol_version | is_reply) || answer[2] != 8 || talkative)
        fail("what it says is no answer of a vhost-user back end");
}

}  // namespace virtbus::qemu
