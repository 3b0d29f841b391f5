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
    : loop_{loop}, program_{request.argv.empty() ? std::string{} : request.argv.front()} {
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

bool Launch::read_one(const Reply<>::Promise& done) {
    auto packet = receive_report(report_.get());
    if (!packet) return false;
    if (packet->started)
        started_ = std::move(*packet->started);
    else if (!packet->failure.empty())
        done.fail(Error{Code::hypervisor_failed, packet->failure});
    else if (!started_.pid)
        done.fail(
            Error{Code::hypervisor_failed, fmt::format("The launcher of {} ended before it said anything", program_)});
    else
        done.set();  // the socket went with the launcher's old self: the program runs
    return true;
}

Task<> Launch::wait(Deadline deadline, std::stop_token stop) {
    Reply<> reply{loop_};
    const auto read_all = [this, promise = reply.promise()](unsigned) {
        try {
            while (!promise.settled() && read_one(promise)) {
            }
        } catch (const Error& error) {
            promise.fail(error);
        }
    };
    const auto watch = loop_.watch(report_.get(), readable, read_all);
    co_await reply.wait(fmt::format("the start of {}", program_), deadline, std::move(stop));
}

}  // namespace virtbus::systemd
