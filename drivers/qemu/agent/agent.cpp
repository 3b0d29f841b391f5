// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/agent/agent.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <vector>

namespace virtbus::qemu {

using nlohmann::json;

namespace {

constexpr std::string_view channel_name = "org.qemu.guest_agent.0";

/// The socket on which QEMU listens for who wants to speak with the agent.
std::string agent_socket(const GuestCore& core) {
    const auto fail = [&](const std::string& why) {
        return Error{Code::agent_unavailable, fmt::format("{} {}", core.who(), why)};
    };
    for (const auto& channel : core.config.devices.channels) {
        if (!channel.target || channel.target->name != channel_name) continue;
        const auto* source = channel.backend.source();
        if (channel.type != ChardevType::unix_socket || !source || source->mode != "bind")
            throw fail(
                "has its guest agent's channel on a back end that nobody can connect to; a unix socket in mode bind is "
                "needed");
        if (channel.target->state == "disconnected") throw fail("has no guest agent running: its channel is not open");
        return source->path.empty() ? fmt::format("{}/guest/{}.sock", core.record.folder, channel.info.alias)
                                    : source->path;
    }
    throw fail(fmt::format("has no channel for a guest agent (a <channel> with the target name {})", channel_name));
}

}  // namespace

/// Outlives the QemuAgent while a task speaks.
struct QemuAgent::Line {
    std::shared_ptr<GuestCore> core;
    Times times;
    bool speaking = false;
    std::vector<Reply<>::Promise> queue;

    /// Until nobody else speaks; then it is taken.
    static Task<> take(std::shared_ptr<Line> line, std::stop_token stop) {
        while (line->speaking) {
            Reply<> turn{line->core->ports.loop};
            line->queue.push_back(turn.promise());
            co_await turn.wait("the guest agent's channel", in(line->times.freezing + line->times.greeting), stop);
        }
        line->speaking = true;
    }
    void give_back() {
        speaking = false;
        for (const auto& waiting : std::exchange(queue, {})) waiting.set();
    }

    /// The channel, for one conversation, kept from consoles. `take_over`: also from one that is open.
    class Conversation {
    public:
        Conversation(std::shared_ptr<Line> line, bool take_over) : line_{std::move(line)} {
            auto& guest = *line_->core;
            const auto path = agent_socket(guest);
            if (guest.consoles.is_open(path) && take_over) guest.consoles.close(path);
            if (guest.consoles.is_open(path))
                throw Error{Code::device_in_use,
                            fmt::format("the guest agent's channel of {} is open as a console", guest.who())};
            talk_.emplace(guest.ports.loop, connect(guest, path), guest.who());
            guest.consoles.reserve(path);
            path_ = path;
        }
        Conversation(const Conversation&) = delete;
        Conversation& operator=(const Conversation&) = delete;
        ~Conversation() { line_->core->consoles.release(path_); }
        AgentTalk& talk() { return *talk_; }

    private:
        static Fd connect(const GuestCore& guest, const std::string& path) {
            try {
                return connect_socket(path);
            } catch (const Error& error) {
                throw Error{Code::agent_unavailable,
                            fmt::format("the guest agent's channel of {}: {}", guest.who(), error.what())};
            }
        }
        std::shared_ptr<Line> line_;
        std::string path_;
        std::optional<AgentTalk> talk_;
    };

    /// One command. `asked` becomes true when the guest may have heard it.
    static Task<> say(std::shared_ptr<Line> line, std::string command, json arguments, Duration patience, bool answered,
                      bool take_over, bool& asked, std::stop_token stop) {
        co_await take(line, stop);
        std::exception_ptr failure;
        try {
            Conversation conversation{line, take_over};
            co_await conversation.talk().sync(in(line->times.greeting), stop);
            asked = true;
            if (answered)
                co_await conversation.talk().ask(std::move(command), std::move(arguments), in(patience), stop);
            else
                co_await conversation.talk().tell(std::move(command), std::move(arguments), in(patience), stop);
        } catch (...) {
            failure = std::current_exception();
        }
        line->give_back();
        if (failure) std::rethrow_exception(failure);
    }

    static Task<> freeze(std::shared_ptr<Line> line, std::stop_token stop) {
        bool asked = false, unsure = false;
        std::exception_ptr failure;
        try {
            co_await say(line, "guest-fsfreeze-freeze", nullptr, line->times.freezing, true, false, asked, stop);
        } catch (const Error& error) {
            unsure = asked && error.code() != Code::agent_failed;
            failure = std::current_exception();
        }
        if (unsure) {
            try {
                co_await thaw(line);
            } catch (const Error& error) {
                line->core->ports.log.warning(
                    fmt::format("{} may be left with frozen file systems: {}", line->core->who(), error.what()),
                    {{"DOMAIN", line->core->config.name}, {"DOMAIN_UUID", line->core->config.uuid}});
            }
        }
        if (failure) std::rethrow_exception(failure);
    }

    static Task<> thaw(std::shared_ptr<Line> line) {
        bool asked = false;
        co_await say(line, "guest-fsfreeze-thaw", nullptr, line->times.freezing, true, true, asked, {});
    }

    static Task<> shut_down(std::shared_ptr<Line> line, std::string mode, std::stop_token stop) {
        bool asked = false;
        co_await say(line, "guest-shutdown", json{{"mode", std::move(mode)}}, line->times.leaving, false, false, asked,
                     std::move(stop));
    }
};

QemuAgent::QemuAgent(std::shared_ptr<GuestCore> core, Times times)
    : line_{std::make_shared<Line>(Line{std::move(core), times, false, {}})} {}

Task<> QemuAgent::freeze(std::stop_token stop) {
    return Line::freeze(line_, std::move(stop));
}

Task<> QemuAgent::thaw() {
    return Line::thaw(line_);
}

Task<> QemuAgent::shut_down(std::string mode, std::stop_token stop) {
    return Line::shut_down(line_, std::move(mode), std::move(stop));
}

}  // namespace virtbus::qemu
