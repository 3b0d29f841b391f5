// SPDX-License-Identifier: LGPL-2.1-or-later
// One method call under way: its message, who made it and on which object. Generated code reads the arguments from it,
// asks for permission through it and answers with it; handlers see the caller and the object's keys.
#pragma once

#include <functional>
#include <initializer_list>
#include <stop_token>
#include <string>
#include <string_view>

#include "dbus/server/connection.hpp"
#include "dbus/server/interface.hpp"
#include "dbus/server/message.hpp"
#include "dbus/server/permissions.hpp"
#include "dbus/server/presence.hpp"

namespace virtbus::dbus {

/// What a permission is about. `exists` is false when the details name something that is not there.
struct Subject {
    Details details;
    bool exists = true;
    bool operator==(const Subject&) const = default;
};

class Call {
public:
    Call(ConnectionPtr connection, sd_bus_message* message, Keys keys, Permissions& permissions, Presence& presence);
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
    ~Call();

    const Caller& caller() const { return caller_; }
    const Keys& keys() const { return keys_; }
    std::string_view path() const;
    std::string_view method() const;

    // For the engine and the generated code.
    Task<> identify();
    Reader arguments();
    /// Counts what the arguments take; LimitsExceeded when the caller has too much under way.
    void hold(std::size_t bytes);
    /// Asks for each action. When the subject has changed while the answer came, asks again about what it is now.
    Task<> permit(std::vector<std::string> actions, std::function<Subject()> subject);
    template <class Fill>
    void answer(Fill fill) {
        if (!wants_answer()) return;
        Message reply = Message::reply_to(message_.get());
        Writer out{reply.get()};
        fill(out);
        send(reply, out.bytes());
    }
    bool wants_answer() const;
    sd_bus_message* message() const { return message_.get(); }

private:
    void send(const Message& reply, std::size_t bytes);

    ConnectionPtr connection_;
    Message message_;
    Caller caller_;
    Keys keys_;
    Permissions& permissions_;
    Presence& presence_;
    std::size_t held_ = 0;
};

}  // namespace virtbus::dbus
