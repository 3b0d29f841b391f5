// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/dispatcher.hpp"

#include <fmt/format.h>
#include <systemd/sd-bus.h>

#include "dbus/server/answer.hpp"
#include "dbus/server/standard.hpp"
#include "virtbus/error.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::dbus {

Dispatcher::Dispatcher(Loop& loop, Log& log, std::string root, PermissionCheck check)
    : log_{log},
      tree_{std::move(root)},
      presence_{loop},
      permissions_{std::move(check)},
      calls_{std::make_unique<Scope>()} {}

void Dispatcher::drop_all() {
    calls_ = std::make_unique<Scope>();
}

void Dispatcher::left(const std::string& caller) {
    permissions_.forget(caller);
    presence_.left(caller);
}

bool Dispatcher::take(Connection& connection, sd_bus_message* message) noexcept {
    std::uint8_t type = 0;
    if (sd_bus_message_get_type(message, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL) return false;
    try {
        presence_.arrived(connection.sender(message));
        if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Peer", nullptr) > 0) return false;
        route(connection, message);
    } catch (...) {
        answer_error(message, std::current_exception(), log_);
    }
    return true;
}

void Dispatcher::route(Connection& connection, sd_bus_message* message) {
    if (answer_standard(tree_, connection, message)) return;
    const std::string_view path{sd_bus_message_get_path(message)};
    const char* const interface = sd_bus_message_get_interface(message);
    const std::string_view member{sd_bus_message_get_member(message)};
    // Whether the object exists is said only after permission, so that a stranger cannot find out.
    const auto target = tree_.kind_at(path);
    if (!target) throw Error{Code::unknown_object, fmt::format("there is no object {}", path)};
    const Method* method = nullptr;
    const Offer* offer = nullptr;
    for (const Offer& one : target->offers) {
        if (method || (interface && one.interface->name != std::string_view{interface})) continue;
        offer = &one;
        method = one.interface->method(member);
    }
    if (!offer) throw Error{Code::unknown_interface, fmt::format("{} has no interface {}", path, interface)};
    if (!method) throw Error{Code::unknown_method, fmt::format("{} has no method {}", offer->interface->name, member)};
    if (const std::string_view found = sd_bus_message_get_signature(message, 1); found != method->in)
        throw Error{Code::invalid_args,
                    fmt::format("{} takes the arguments '{}', not '{}'", member, method->in, found)};
    start(connection, message, target->keys, *method, offer->handler);
}

void Dispatcher::start(Connection& connection, sd_bus_message* message, const Keys& keys, const Method& method,
                       void* handler) {
    if (connection.calls_of(connection.sender(message)) >= most_calls)
        throw Error{Code::limits_exceeded,
                    fmt::format("you have {} calls under way; wait for the answer of one of them", most_calls)};
    auto call = std::make_unique<Call>(connection.shared_from_this(), message, keys, permissions_, presence_);
    calls_->spawn(serve(std::move(call), method, handler));
}

Task<> Dispatcher::serve(std::unique_ptr<Call> call, const Method& method, void* handler) {
    try {
        co_await call->identify();
        co_await method.run(handler, *call);
    } catch (...) {
        answer_error(call->message(), std::current_exception(), log_);
    }
}

}  // namespace virtbus::dbus
