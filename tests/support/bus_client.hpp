// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: the other end of a connection, driven by the test's own loop, so that nothing runs beside it.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>

#include <cstring>

#include <optional>
#include <string>
#include <vector>

#include "dbus/server/bus_source.hpp"
#include "dbus/server/message.hpp"
#include "service/host/loop.hpp"
#include "tests/support/run.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::tests {

/// Both ends of a connected pair of sockets.
struct SocketPair {
    SocketPair() {
        int ends[2];
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
            throw std::runtime_error{"no sockets"};
        server = Fd{ends[0]};
        client = Fd{ends[1]};
    }
    Fd server, client;
};

/// An answer: its values printed as busctl would, or the name of the error and its message.
struct Answer {
    std::string error, message;
    dbus::Message body;
    bool ok() const { return error.empty(); }
};

class Client {
public:
    /// On a socket that is connected already, as a plain peer or as if there were a bus.
    Client(host::MainLoop& loop, Fd socket, bool as_on_a_bus = false) : loop_{loop} {
        sd_bus_new(&bus_);
        const int fd = socket.release();
        sd_bus_set_fd(bus_, fd, fd);
        if (as_on_a_bus) sd_bus_set_bus_client(bus_, 1);
        begin();
    }
    /// To an address; calls go to the destination.
    Client(host::MainLoop& loop, const std::string& address, std::string destination)
        : loop_{loop}, destination_{std::move(destination)} {
        sd_bus_new(&bus_);
        sd_bus_set_address(bus_, address.c_str());
        sd_bus_set_bus_client(bus_, 1);
        begin();
    }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client() { leave(); }

    void leave() {
        source_.reset();
        if (bus_) sd_bus_close_unref(bus_);
        bus_ = nullptr;
    }
    void stop_reading() { source_.reset(); }
    void go_on_reading() {
        source_.emplace(bus_, [this](int) { closed = true; });
    }
    sd_bus* bus() const { return bus_; }

    /// A call to be filled and sent.
    dbus::Message make(const std::string& path, const std::string& interface, const std::string& member,
                       const char* destination = nullptr) {
        sd_bus_message* message = nullptr;
        if (!destination && !destination_.empty()) destination = destination_.c_str();
        sd_bus_message_new_method_call(bus_, &message, destination, path.c_str(),
                                       interface.empty() ? nullptr : interface.c_str(), member.c_str());
        return dbus::Message{message};
    }

    /// Sends; the answer is there when finished() or wait() says so.
    class Pending {
    public:
        explicit Pending(host::MainLoop& loop) : loop_{&loop}, answer_{std::make_shared<std::optional<Answer>>()} {}
        bool finished() const { return answer_->has_value(); }
        Answer wait() {
            if (!loop_->run_until([this] { return finished(); }, patience)) throw std::runtime_error{"no answer came"};
            return std::move(**answer_);
        }
        std::shared_ptr<std::optional<Answer>> slot() const { return answer_; }

    private:
        host::MainLoop* loop_;
        std::shared_ptr<std::optional<Answer>> answer_;
    };

    Pending send(const dbus::Message& message) {
        Pending pending{loop_};
        using Slot = std::shared_ptr<std::optional<Answer>>;
        sd_bus_slot* slot = nullptr;
        const int sent = sd_bus_call_async(
            bus_, &slot, message.get(),
            [](sd_bus_message* reply, void* data, sd_bus_error*) -> int {
                Answer answer;
                if (const sd_bus_error* error = sd_bus_message_get_error(reply)) {
                    answer.error = error->name;
                    answer.message = error->message ? error->message : "";
                }
                answer.body = dbus::Message::share(reply);
                static_cast<Slot*>(data)->get()->emplace(std::move(answer));
                return 0;
            },
            new Slot{pending.slot()}, UINT64_MAX);
        if (sent < 0) throw std::runtime_error{std::string{"cannot send: "} + std::strerror(-sent)};
        sd_bus_slot_set_destroy_callback(slot, [](void* data) { delete static_cast<Slot*>(data); });
        sd_bus_slot_set_floating(slot, 1);
        sd_bus_slot_unref(slot);
        return pending;
    }

    template <class... Args>
    Pending start(const std::string& path, const std::string& interface, const std::string& member,
                  const char* types = "", Args... args) {
        const dbus::Message message = make(path, interface, member);
        if (*types) sd_bus_message_append(message.get(), types, args...);
        return send(message);
    }
    template <class... Args>
    Answer call(const std::string& path, const std::string& interface, const std::string& member,
                const char* types = "", Args... args) {
        return start(path, interface, member, types, args...).wait();
    }

    /// The answer's body as text, for comparing.
    static std::string print(const Answer& answer) {
        if (!answer.ok()) return answer.error;
        char* text = nullptr;
        std::size_t size = 0;
        FILE* file = ::open_memstream(&text, &size);
        sd_bus_message_rewind(answer.body.get(), 1);
        sd_bus_message_dump(answer.body.get(), file, SD_BUS_MESSAGE_DUMP_SUBTREE_ONLY);
        std::fclose(file);
        std::string printed{text, size};
        ::free(text);
        return printed;
    }
    /// The one string or path in the answer, or the error's name.
    static std::string text(const Answer& answer) {
        if (!answer.ok()) return answer.error;
        const char* value = "";
        char type = 0;
        sd_bus_message_rewind(answer.body.get(), 1);
        sd_bus_message_peek_type(answer.body.get(), &type, nullptr);
        if (type == 's' || type == 'o') sd_bus_message_read_basic(answer.body.get(), type, &value);
        return value;
    }

    struct Heard {
        std::string path, member;
        dbus::Message message;
    };
    std::vector<Heard> signals;
    bool closed = false;

private:
    void begin() {
        sd_bus_negotiate_fds(bus_, 1);
        sd_bus_add_filter(
            bus_, nullptr,
            [](sd_bus_message* message, void* self, sd_bus_error*) -> int {
                static_cast<Client*>(self)->heard(message);
                return 0;
            },
            this);
        if (sd_bus_start(bus_) < 0) throw std::runtime_error{"cannot connect"};
        go_on_reading();
    }
    void heard(sd_bus_message* message) {
        std::uint8_t type = 0;
        sd_bus_message_get_type(message, &type);
        if (type == SD_BUS_MESSAGE_SIGNAL)
            signals.push_back(
                {sd_bus_message_get_path(message), sd_bus_message_get_member(message), dbus::Message::share(message)});
    }
    host::MainLoop& loop_;
    std::string destination_;
    sd_bus* bus_ = nullptr;
    std::optional<dbus::BusSource> source_;
};

}  // namespace virtbus::tests
