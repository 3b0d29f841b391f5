// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/monitor.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "qemu/json.hpp"
#include "qemu/line_reader.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

constexpr std::size_t read_size = 64U << 10;
constexpr int reads_per_turn = 8;  // a flood of events must leave the loop room for everybody else

Error qmp_error(const std::string& who, const std::string& command, const json& error) {
    static constexpr std::pair<std::string_view, Code> codes[] = {
        {"CommandNotFound", Code::unsupported},
        {"DeviceNotFound", Code::no_such_device},
    };
    const auto kind = text(error, "class");
    auto code = Code::hypervisor_failed;
    for (const auto& [name, mapped] : codes)
        if (name == kind) code = mapped;
    return Error{code, fmt::format("QEMU of {} refused {}: {}", who, command,
                                   excerpt(text(error, "desc", "no reason given"), 2000))};
}

}  // namespace

struct Monitor::Core : std::enable_shared_from_this<Core> {
    struct Outgoing {
        std::string bytes;
        std::size_t sent = 0;
        Fd descriptor;
        std::uint64_t id = 0;
    };
    struct InFlight {
        std::string command;
        Reply<json>::Promise promise;
    };

    Core(Loop& loop_, Fd socket_, std::string who_, Handlers handlers_, Options options_)
        : loop{loop_},
          socket{std::move(socket_)},
          who{std::move(who_)},
          handlers{std::make_shared<Handlers>(std::move(handlers_))},
          options{options_},
          lines{options_.line_limit},
          next_id{options_.first_id} {}

    Loop& loop;
    Fd socket;
    std::string who;
    std::shared_ptr<Handlers> handlers;  ///< shared, so that one that runs outlives a monitor it destroys
    Options options;
    LineReader lines;
    std::deque<Outgoing> outgoing;
    std::size_t outgoing_bytes = 0;
    std::unordered_map<std::uint64_t, InFlight> in_flight;
    std::uint64_t next_id;
    std::uint64_t descriptor_id = 0;  ///< the unanswered command whose descriptor QEMU holds, or 0
    std::optional<Error> failure;
    bool greeted = false;
    bool stalled = false;
    Registration readable_watch, writable_watch, greeting_timer, stall_timer;

    // ---- the socket

    void open() {
        const std::weak_ptr<Core> weak = weak_from_this();
        readable_watch = loop.watch(socket.get(), readable, [weak](unsigned) {
            if (const auto self = weak.lock()) self->receive();
        });
        if (options.greeting)
            greeting_timer = loop.after(*options.greeting, [weak] {
                if (const auto self = weak.lock())
                    self->end(Error{Code::timeout, fmt::format("the monitor of {} did not greet in time", self->who)});
            });
    }

    void receive() {
        char buffer[read_size];
        for (int i = 0; i < reads_per_turn && !failure; ++i) {
            const auto got = ::recv(socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
            if (got <= 0) return end(closed(got < 0 ? errno : 0));
            take({buffer, static_cast<std::size_t>(got)});
        }
    }

    Error closed(int error) const {
        if (error && error != ECONNRESET)
            return Error{Code::hypervisor_failed,
                         fmt::format("reading from the monitor of {}: {}", who, std::strerror(error))};
        if (lines.pending() > 0)
            return Error{Code::hypervisor_failed,
                         fmt::format("the monitor of {} was closed in the middle of a line", who)};
        return Error{Code::hypervisor_failed, fmt::format("the monitor of {} was closed by QEMU", who)};
    }

    /// Bounded by what the socket's buffer can hold.
    void drain() {
        for (int i = 0; i < 64 && !failure; ++i) receive();
    }

    void take(std::string_view bytes) {
        try {
            lines.feed(bytes);
            while (!failure) {
                const auto line = lines.next();
                if (!line) break;
                if (!line->empty()) handle(parse_json(*line));
            }
            rearm_stall_timer();
        } catch (const Error& error) {
            end(broken(error.what()));
        } catch (const json::exception& error) {  // a handler met an event of another shape
            end(broken(error.what()));
        }
    }

    Error broken(std::string_view what) const {
        return Error{Code::hypervisor_failed, fmt::format("the monitor of {} broke the protocol: {}", who, what)};
    }

    // ---- what came

    void handle(const json& message) {
        if (!greeted) return greet(message);
        set_stalled(false);
        if (!message.is_object()) return end(broken("a line that is no object"));
        if (const auto& name = member(message, "event"); name.is_string()) {
            if (const auto kept = handlers; kept && kept->event)
                kept->event(name.get_ref<const std::string&>(), member(message, "data"));
            return;
        }
        answer(message);
    }

    void greet(const json& message) {
        // QEMU tells a client of what happens before it has noticed that it is another one.
        if (member(message, "event").is_string()) return;
        if (!member(message, "QMP").is_object()) return end(broken("the first line is no greeting"));
        greeted = true;
        greeting_timer.reset();
        set_stalled(false);
    }

    void answer(const json& message) {
        const auto& id = member(message, "id");
        if (id.is_number_unsigned() && id.get<std::uint64_t>() < options.first_id) return;
        const auto found = id.is_number_unsigned() ? in_flight.find(id.get<std::uint64_t>()) : in_flight.end();
        if (found == in_flight.end())
            return end(broken(
                fmt::format("an answer to nothing that was asked: \"{}\"", excerpt(message.dump(-1, ' ', true)))));
        const auto done = std::move(found->second);
        const bool had_descriptor = found->first == descriptor_id;
        in_flight.erase(found);
        if (const auto& error = member(message, "error"); !error.is_null())
            done.promise.fail(qmp_error(who, done.command, error));
        else if (message.contains("return"))
            done.promise.set(member(message, "return"));
        else
            return end(broken(fmt::format("an answer to {} without a result", done.command)));
        if (had_descriptor) {
            descriptor_id = 0;
            transmit();
        }
    }

    // ---- what goes

    Reply<json>::Promise submit(std::string_view command, const json& arguments, Fd descriptor,
                                Reply<json>::Promise promise) {
        if (failure) {
            promise.fail(*failure);
            return promise;
        }
        const auto id = next_id++;
        json message{{"execute", command}, {"id", id}};
        if (!arguments.is_null()) message["arguments"] = arguments;
        auto bytes = message.dump(-1, ' ', true, json::error_handler_t::replace) + "\n";
        if (in_flight.size() >= options.in_flight || outgoing_bytes + bytes.size() > options.backlog) {
            promise.fail(Error{Code::timeout, fmt::format("QEMU of {} has {} commands to answer and takes no more", who,
                                                          in_flight.size())});
            return promise;
        }
        outgoing_bytes += bytes.size();
        in_flight.emplace(id, InFlight{std::string{command}, promise});
        outgoing.push_back({std::move(bytes), 0, std::move(descriptor), id});
        if (!stall_timer && !stalled) rearm_stall_timer();
        transmit();
        return promise;
    }

    /// QEMU keeps one received descriptor: the next one is sent only when the command before has taken its own.
    bool must_hold(const Outgoing& next) const { return next.descriptor && next.sent == 0 && descriptor_id != 0; }

    void transmit() {
        while (!failure && !outgoing.empty()) {
            auto& next = outgoing.front();
            if (must_hold(next)) break;
            const auto sent = send_some(next);
            if (sent < 0 && errno == EINTR) continue;
            if (sent < 0 && (errno == EAGAIN || errno == ENOTCONN)) return wait_writable();
            if (sent < 0) return end(closed(errno == EPIPE ? 0 : errno));
            if (next.descriptor) {
                descriptor_id = next.id;
                next.descriptor = Fd{};
            }
            next.sent += static_cast<std::size_t>(sent);
            outgoing_bytes -= static_cast<std::size_t>(sent);
            if (next.sent == next.bytes.size()) outgoing.pop_front();
        }
        writable_watch.reset();
    }

    ssize_t send_some(Outgoing& next) const {
        iovec part{next.bytes.data() + next.sent, next.bytes.size() - next.sent};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
        if (next.descriptor) {
            message.msg_control = control;
            message.msg_controllen = sizeof control;
            auto* header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int));
            const int fd = next.descriptor.get();
            std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
        }
        return ::sendmsg(socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }

    void wait_writable() {
        if (writable_watch) return;
        writable_watch = loop.watch(socket.get(), writable, [weak = weak_from_this()](unsigned) {
            if (const auto self = weak.lock()) self->transmit();
        });
    }

    // ---- signs of life

    void rearm_stall_timer() {
        stall_timer.reset();
        if (in_flight.empty() || failure) return;
        stall_timer = loop.after(options.patience, [weak = weak_from_this()] {
            const auto self = weak.lock();
            if (!self || self->failure) return;
            self->stall_timer.reset();
            self->set_stalled(true);
        });
    }

    void set_stalled(bool now) {
        if (std::exchange(stalled, now) == now) return;
        if (const auto kept = handlers; kept && kept->stalled) kept->stalled(now);
    }

    // ---- the end

    void shut(const Error& why) {
        failure = why;
        readable_watch.reset();
        writable_watch.reset();
        greeting_timer.reset();
        stall_timer.reset();
        outgoing.clear();
        outgoing_bytes = 0;
        for (auto& [id, waiting] : std::exchange(in_flight, {})) waiting.promise.fail(why);
        socket = Fd{};
        if (lines.pending() > 0) lines = LineReader{options.line_limit};
    }

    void end(const Error& why) {
        if (failure) return;
        shut(why);
        loop.post([self = shared_from_this()] {
            if (const auto kept = std::exchange(self->handlers, nullptr); kept && kept->ended)
                kept->ended(*self->failure);
        });
    }
};

Monitor::Monitor(Loop& loop, Fd socket, std::string who, Handlers handlers, Options options)
    : core_{std::make_shared<Core>(loop, std::move(socket), std::move(who), std::move(handlers), options)} {
    core_->open();
    send("qmp_capabilities");
}

Monitor::Monitor(Loop& loop, Fd socket, std::string who, Handlers handlers)
    : Monitor{loop, std::move(socket), std::move(who), std::move(handlers), Options{}} {}

Monitor::~Monitor() {
    core_->handlers.reset();
    close(Error{Code::hypervisor_failed, fmt::format("the monitor of {} is no longer used", core_->who)});
}

Monitor::Answer Monitor::send(std::string_view command, const json& arguments, Fd descriptor) {
    Answer answer;
    answer.reply_ = std::make_shared<Reply<json>>(core_->loop);
    answer.what_ = fmt::format("QMP {} of {}", command, core_->who);
    core_->submit(command, arguments, std::move(descriptor), answer.reply_->promise());
    return answer;
}

Monitor::Answer Monitor::send(std::string_view command) {
    return send(command, json{});
}

namespace {
Task<json> await_answer(std::shared_ptr<Reply<json>> reply, std::string what, Deadline deadline, std::stop_token stop) {
    co_return co_await reply->wait(std::move(what), deadline, std::move(stop));
}
}  // namespace

Task<json> Monitor::Answer::get(Deadline deadline, std::stop_token stop) const {
    return await_answer(reply_, what_, deadline, std::move(stop));
}

Task<json> Monitor::execute(std::string_view command, const json& arguments, Deadline deadline, std::stop_token stop) {
    return send(command, arguments).get(deadline, std::move(stop));
}

Task<json> Monitor::execute(std::string_view command, Deadline deadline, std::stop_token stop) {
    return send(command).get(deadline, std::move(stop));
}

void Monitor::drain() {
    const auto core = core_;
    core->drain();
}

void Monitor::close(const Error& why) {
    if (!core_->failure) core_->shut(why);
}

bool Monitor::is_open() const noexcept {
    return !core_->failure;
}
bool Monitor::is_stalled() const noexcept {
    return core_->stalled;
}

}  // namespace virtbus::qemu
