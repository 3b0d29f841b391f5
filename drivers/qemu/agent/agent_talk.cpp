// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/agent/agent_talk.hpp"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>

#include "qemu/json.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

/// No text in UTF-8 holds it: what comes before it is thrown away, by both sides.
constexpr char delimiter = '\xff';

/// Not to be guessed, so that no answer made up earlier fits.
std::uint32_t fresh_number() {
    std::uint32_t number = 0;
    if (::getrandom(&number, sizeof number, 0) != sizeof number) number = 1;
    return number >> 1;
}

}  // namespace

struct AgentTalk::Core {
    Core(Loop& loop_, Fd socket_, std::string who_) : loop{loop_}, socket{std::move(socket_)}, who{std::move(who_)} {}

    Loop& loop;
    Fd socket;
    std::string who;
    std::string incoming, outgoing;
    std::optional<std::string> gone;  ///< why nothing more will come
    std::optional<Reply<>::Promise> waiter;
    Registration reading, writing;

    Error unavailable(const std::string& why) const {
        return Error{Code::agent_unavailable, fmt::format("the guest agent of {} {}", who, why)};
    }

    void start() {
        reading = loop.watch(socket.get(), readable, [this](unsigned) { receive(); });
    }
    void end(std::string why) {
        if (!gone) gone = std::move(why);
        reading.reset();
        writing.reset();
        wake();
    }
    void wake() {
        if (waiter) waiter->set();
    }
    void receive() {
        std::array<char, 16384> buffer;
        const auto got = ::recv(socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (got <= 0) return end("has gone away");
        incoming.append(buffer.data(), static_cast<std::size_t>(got));
        // What is over the limit was no honest line, and what comes after it cannot be told from it.
        if (incoming.size() > line_limit && incoming.find('\n') == std::string::npos)
            return end(fmt::format("sent a line of more than {} bytes", line_limit));
        if (incoming.size() > 2 * line_limit) return end("sends more than it was asked for");
        wake();
    }
    void send(std::string_view bytes) {
        outgoing += bytes;
        flush();
    }
    void flush() {
        while (!outgoing.empty() && !gone) {
            const auto sent = ::send(socket.get(), outgoing.data(), outgoing.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) continue;
            if (sent < 0 && errno != EAGAIN) return end("has gone away");
            if (sent < 0) break;
            outgoing.erase(0, static_cast<std::size_t>(sent));
        }
        if (outgoing.empty() || gone) return writing.reset();
        if (!writing) writing = loop.watch(socket.get(), writable, [this](unsigned) { flush(); });
    }

    static Task<std::string> line(std::shared_ptr<Core> core, std::string what, Deadline deadline,
                                  std::stop_token stop) {
        while (true) {
            if (const auto end = core->incoming.find('\n'); end != std::string::npos) {
                std::string taken = core->incoming.substr(0, end);
                core->incoming.erase(0, end + 1);
                co_return taken;
            }
            if (core->gone) throw core->unavailable(*core->gone);
            Reply<> reply{core->loop};
            core->waiter = reply.promise();
            co_await reply.wait(what, deadline, stop);
            core->waiter.reset();
        }
    }
    std::uint32_t send_sync() {
        const auto number = fresh_number();
        send(delimiter + json{{"execute", "guest-sync-delimited"}, {"arguments", {{"id", number}}}}.dump() + "\n");
        return number;
    }
    /// Whether the line is the answer to that sync.
    static bool is_synced(std::string_view line, std::uint32_t number) {
        const auto mark = line.rfind(delimiter);
        if (mark == line.npos) return false;
        const auto answer = json::parse(line.substr(mark + 1), nullptr, false);
        const auto& value = member(answer, "return");
        return value.is_number_integer() && value == number;
    }
    void send_command(const std::string& command, const json& arguments) {
        json message{{"execute", command}};
        if (!arguments.is_null()) message["arguments"] = arguments;
        send(message.dump(-1, ' ', true, json::error_handler_t::replace) + "\n");
    }
    json parse(const std::string& command, const std::string& line) const {
        json answer;
        try {
            answer = parse_json(line);
        } catch (const Error&) {
            answer = nullptr;
        }
        if (const auto& error = member(answer, "error"); !error.is_null())
            throw Error{Code::agent_failed, fmt::format("the guest agent of {} refused {}: {}", who, command,
                                                        excerpt(text(error, "desc", "no reason given"), 500))};
        if (!answer.is_object() || !answer.contains("return"))
            throw unavailable(fmt::format("answered {} with rubbish: \"{}\"", command, excerpt(line)));
        return answer["return"];
    }
};

AgentTalk::AgentTalk(Loop& loop, Fd socket, std::string who)
    : core_{std::make_shared<Core>(loop, std::move(socket), std::move(who))} {
    core_->start();
}

AgentTalk::~AgentTalk() {
    core_->end("is no longer listened to");
}

Task<> AgentTalk::sync(Deadline deadline, std::stop_token stop) {
    const auto core = core_;
    const auto number = core->send_sync();
    bool silent = false;
    try {
        while (!Core::is_synced(co_await Core::line(core, "the guest agent's first answer", deadline, stop), number)) {
        }
    } catch (const Error& error) {
        if (error.code() != Code::timeout) throw;
        silent = true;
    }
    if (silent) throw core->unavailable("does not answer");
}

Task<json> AgentTalk::ask(std::string command, json arguments, Deadline deadline, std::stop_token stop) {
    const auto core = core_;
    core->send_command(command, arguments);
    const auto line = co_await Core::line(core, fmt::format("the guest agent's answer to {} of {}", command, core->who),
                                          deadline, std::move(stop));
    co_return core->parse(command, line);
}

Task<> AgentTalk::tell(std::string command, json arguments, Deadline deadline, std::stop_token stop) {
    const auto core = core_;
    core->send_command(command, arguments);
    // Commands are done in their order: when this is answered, that has been taken.
    const auto number = core->send_sync();
    std::string line;
    try {
        line = co_await Core::line(core, fmt::format("the guest agent of {} to take {}", core->who, command), deadline,
                                   std::move(stop));
    } catch (const Error& error) {
        if (error.code() != Code::agent_unavailable || core->gone != "has gone away") throw;
        co_return;
    }
    if (!Core::is_synced(line, number)) core->parse(command, line);
}

}  // namespace virtbus::qemu
