// SPDX-License-Identifier: LGPL-2.1-or-later
#include "launch/launch.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "virtbus/error.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::systemd {

namespace {

std::pair<Fd, Fd> packet_sockets() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) < 0)
        throw Error{Code::internal, fmt::format("Making a socket for the launcher: {}", std::strerror(errno))};
    return {Fd{ends[0]}, Fd{ends[1]}};
}

std::vector<std::string> environment_of(const UnitRequest& request) {
    auto all = request.environment;
    all.try_emplace("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    all.try_emplace("LC_ALL", "C");
    std::vector<std::string> result;
    for (const auto& [name, value] : all) result.push_back(name + "=" + value);
    return result;
}

}  // namespace

Launch::Launch(Loop& loop, const UnitRequest& request, std::optional<Account> account)
    : loop_{loop}, program_{request.argv.empty() ? std::string{} : request.argv.front()}, reply_{loop} {
    std::tie(ours_, theirs_) = packet_sockets();
    auto [report, their_report] = packet_sockets();
    LaunchOrder order;
    order.argv = request.argv;
    order.environment = environment_of(request);
    order.fds = request.fds;
    order.output = request.output;
    order.report = their_report.get();
    order.account = std::move(account);
    order.memory_locked = request.memory_locked;
    send_order(ours_.get(), order);
    report_ = std::move(report);
}

void Launch::fail(const std::string& why) {
    reply_.promise().fail(Error{Code::hypervisor_failed, why});
}

bool Launch::read_one() {
    auto packet = receive_report(report_.get());
    if (!packet) return false;
    if (packet->started)
        started_ = std::move(*packet->started);
    else if (!packet->failure.empty())
        fail(packet->failure);
    else if (!started_.pid)
        fail(fmt::format("The launcher of {} ended before it said anything", program_));
    else
        reply_.promise().set();  // the socket went with the launcher's old self: the program runs
    return true;
}

Task<> Launch::wait(Deadline deadline, std::stop_token stop) {
    const auto watch = loop_.watch(report_.get(), readable, [this](unsigned) {
        try {
            while (!reply_.promise().settled() && read_one()) {
            }
        } catch (const Error& error) {
            reply_.promise().fail(error);
        }
    });
    co_await reply_.wait(fmt::format("The start of {}", program_), deadline, std::move(stop));
}

}  // namespace virtbus::systemd
