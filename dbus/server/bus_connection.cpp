// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/bus_connection.hpp"

#include <fmt/format.h>
#include <systemd/sd-bus.h>

#include <cerrno>
#include <cstring>

#include "virtbus/error.hpp"

namespace virtbus::dbus {

namespace {

void require(int result, const char* what) {
    if (result < 0) throw Error{Code::internal, fmt::format("cannot {}: {}", what, std::strerror(-result))};
}

/// The uid and pid of an answer of GetConnectionCredentials; false when it has no uid.
bool read_credentials(sd_bus_message* answer, std::uint32_t& uid, std::uint32_t& pid) {
    bool found = false;
    if (sd_bus_message_enter_container(answer, 'a', "{sv}") < 0) return false;
    while (sd_bus_message_enter_container(answer, 'e', "sv") > 0) {
        const char* name = nullptr;
        if (sd_bus_message_read_basic(answer, 's', &name) < 0) return false;
        const std::string_view key{name};
        if (key == "UnixUserID") {
            if (sd_bus_message_read(answer, "v", "u", &uid) < 0) return false;
            found = true;
        } else if (key == "ProcessID") {
            if (sd_bus_message_read(answer, "v", "u", &pid) < 0) return false;
        } else if (sd_bus_message_skip(answer, "v") < 0) {
            return false;
        }
        if (sd_bus_message_exit_container(answer) < 0) return false;
    }
    return found;
}

}  // namespace

BusConnection::BusConnection(Dispatcher& dispatcher, Loop& loop, BusOptions options,
                             std::function<void(std::string)> lost)
    : dispatcher_{dispatcher}, loop_{loop}, options_{std::move(options)} {
    const int opened = options_.system ? sd_bus_open_system(&bus_) : sd_bus_open_user(&bus_);
    require(opened, options_.system ? "connect to the system bus" : "connect to the session bus");
    try {
        require(sd_bus_set_exit_on_disconnect(bus_, 0), "set up the connection to the bus");
        watch_names();
        look_up_earlier_callers();
        sd_bus_slot* slot = nullptr;
        const auto filter = [](sd_bus_message* message, void* self, sd_bus_error*) -> int {
            auto& connection = *static_cast<BusConnection*>(self);
            return connection.dispatcher_.take(connection, message) ? 1 : 0;
        };
        require(sd_bus_add_filter(bus_, &slot, filter, this), "listen on the bus");
        slots_.push_back(slot);
    } catch (...) {
        for (auto* slot : slots_) sd_bus_slot_unref(slot);
        sd_bus_close_unref(bus_);
        throw;
    }
    source_.emplace(bus_, [lost = std::move(lost)](int error) {
        lost(fmt::format("the connection to the bus has ended: {}", std::strerror(error)));
    });
}

BusConnection::~BusConnection() {
    source_.reset();
    for (auto* slot : slots_) sd_bus_slot_unref(slot);
    sd_bus_flush_close_unref(bus_);
}

/// One match for all names that vanish costs a wake-up per leaving connection. One per caller would cost two messages
/// for each, and a caller could leave before its match is in place; the bus sends a caller's calls before its end.
void BusConnection::look_up_earlier_callers() {
    for (const auto& name : dispatcher_.presence().take_expected()) {
        sd_bus_message* answer = nullptr;
        int there = 0;
        require(sd_bus_call_method(bus_, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                   "NameHasOwner", nullptr, &answer, "s", name.c_str()),
                "look for a caller of the earlier daemon");
        const int read = sd_bus_message_read(answer, "b", &there);
        sd_bus_message_unref(answer);
        require(read, "look for a caller of the earlier daemon");
        if (!there) dispatcher_.left(name);
    }
}

void BusConnection::watch_names() {
    const auto vanished = [](sd_bus_message* message, void* self, sd_bus_error*) -> int {
        const char* name = nullptr;
        if (sd_bus_message_read_basic(message, 's', &name) <= 0 || name[0] != ':') return 0;
        auto& connection = *static_cast<BusConnection*>(self);
        const std::string gone{name};
        const auto identity = connection.identities_.extract(gone);
        if (identity)
            for (const auto& waiting : identity.mapped().waiting) waiting.set();
        connection.dispatcher_.left(gone);
        return 0;
    };
    sd_bus_slot* slot = nullptr;
    require(sd_bus_add_match(bus_, &slot,
                             "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                             "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''",
                             vanished, this),
            "watch for callers that leave");
    slots_.push_back(slot);
}

void BusConnection::own_name() {
    const int result = sd_bus_request_name(bus_, options_.name.c_str(), 0);
    if (result == -EEXIST || result == -EALREADY)
        throw Error{Code::already_exists,
                    fmt::format("the name {} is taken on the {} bus: another virtbusd runs there; stop it first",
                                options_.name, options_.system ? "system" : "session")};
    if (result == -EPERM || result == -EACCES)
        throw Error{Code::access_denied,
                    fmt::format("the bus does not let this user own {}; install the bus policy org.virtbus1.conf",
                                options_.name)};
    require(result, "own the name on the bus");
}

void BusConnection::release_name() {
    sd_bus_release_name(bus_, options_.name.c_str());
    sd_bus_flush(bus_);
}

std::string BusConnection::sender(sd_bus_message* message) const {
    const char* name = sd_bus_message_get_sender(message);
    return name ? name : "";
}

void BusConnection::learnt(const std::string& name, sd_bus_message* answer) {
    const auto found = identities_.find(name);
    if (found == identities_.end()) return;
    Identity& identity = found->second;
    if (sd_bus_message_is_method_error(answer, nullptr) > 0)
        identity.fault =
            sd_bus_message_get_error(answer)->message ? sd_bus_message_get_error(answer)->message : "error";
    else if (!read_credentials(answer, identity.uid, identity.pid))
        identity.fault = "the bus does not tell the user";
    else
        identity.known = true;
    for (const auto& waiting : std::exchange(identity.waiting, {})) waiting.set();
}

void BusConnection::ask(const std::string& name) {
    struct Question {
        BusConnection* connection;
        std::string name;
    };
    const auto answered = [](sd_bus_message* answer, void* data, sd_bus_error*) -> int {
        auto& question = *static_cast<Question*>(data);
        question.connection->learnt(question.name, answer);
        return 0;
    };
    sd_bus_slot* slot = nullptr;
    auto* question = new Question{this, name};
    const int result =
        sd_bus_call_method_async(bus_, &slot, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                 "GetConnectionCredentials", answered, question, "s", name.c_str());
    if (result < 0) {
        delete question;
        require(result, "ask the bus who calls");
    }
    sd_bus_slot_set_destroy_callback(slot, [](void* data) { delete static_cast<Question*>(data); });
    sd_bus_slot_set_floating(slot, 1);
    sd_bus_slot_unref(slot);
}

Task<> BusConnection::identify(Caller& caller) {
    auto found = identities_.find(caller.name);
    if (found == identities_.end() || !found->second.known) {
        Reply<> reply{loop_};
        const bool first = found == identities_.end() || found->second.waiting.empty();
        identities_[caller.name].waiting.push_back(reply.promise());
        if (first) ask(caller.name);
        co_await reply.wait("the question who calls", in(std::chrono::seconds{30}));
        found = identities_.find(caller.name);
    }
    if (found != identities_.end() && found->second.known) {
        caller.uid = found->second.uid;
        caller.pid = found->second.pid;
    } else if (options_.assumed_uid) {
        caller.uid = *options_.assumed_uid;
    } else {
        const std::string why = found == identities_.end() ? "it has left the bus" : found->second.fault;
        throw Error{Code::access_denied, fmt::format("it cannot be found out who {} is: {}", caller.name, why)};
    }
}

}  // namespace virtbus::dbus
