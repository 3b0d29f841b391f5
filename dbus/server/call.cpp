// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/call.hpp"

#include <fmt/format.h>
#include <systemd/sd-bus.h>

#include "virtbus/error.hpp"

namespace virtbus::dbus {

Call::Call(ConnectionPtr connection, sd_bus_message* message, Keys keys, Permissions& permissions, Presence& presence)
    : connection_{std::move(connection)},
      message_{Message::share(message)},
      keys_{std::move(keys)},
      permissions_{permissions},
      presence_{presence} {
    caller_.name = connection_->sender(message);
    caller_.interactive = sd_bus_message_get_allow_interactive_authorization(message) > 0;
    connection_->load(caller_.name).calls++;
}

Call::~Call() {
    connection_->unload(caller_.name, held_);
}

std::string_view Call::path() const {
    return sd_bus_message_get_path(message_.get());
}
std::string_view Call::method() const {
    return sd_bus_message_get_member(message_.get());
}
bool Call::wants_answer() const {
    return sd_bus_message_get_expect_reply(message_.get()) > 0;
}

Task<> Call::identify() {
    co_await connection_->identify(caller_);
}

Reader Call::arguments() {
    return Reader{message_.get()};
}

void Call::hold(std::size_t bytes) {
    Load& load = connection_->load(caller_.name);
    if (load.bytes + bytes > most_bytes)
        throw Error{
            Code::limits_exceeded,
            fmt::format("the calls you have under way hold {} bytes; at most {} are taken", load.bytes, most_bytes)};
    load.bytes += bytes;
    held_ += bytes;
}

Task<> Call::permit(std::vector<std::string> actions, std::function<Subject()> subject) {
    constexpr int most_changes = 4;
    // Until the answer is there, a caller that leaves takes its question along; afterwards the work is done without it.
    std::stop_source caller_left;
    const Registration watch = presence_.when_gone(caller_, [caller_left]() mutable { caller_left.request_stop(); });
    for (int attempt = 0; attempt < most_changes; attempt++) {
        const Subject asked = subject();
        for (const auto& action : actions)
            co_await permissions_.require(caller_, action, asked.details, caller_left.get_token());
        const Subject now = subject();
        if (now == asked || !now.exists) co_return;
    }
    throw Error{Code::busy, fmt::format("what {} is about kept changing while permission was asked for", method())};
}

void Call::send(const Message& reply, std::size_t bytes) {
    // A caller that has left is no concern of the work that was done for it.
    if (sd_bus_send(sd_bus_message_get_bus(message_.get()), reply.get(), nullptr) >= 0) connection_->sent(bytes);
}

}  // namespace virtbus::dbus
