// SPDX-License-Identifier: LGPL-2.1-or-later
// Takes each method call that arrives on any connection to the object it names: reads at once, verbs as tasks after
// the caller is known and the arguments, the permission and the object are in order. Signals are signals.hpp's work.
#pragma once

#include <memory>

#include "dbus/server/call.hpp"
#include "dbus/server/tree.hpp"

namespace virtbus {
class Log;
}

namespace virtbus::dbus {

class Dispatcher {
public:
    Dispatcher(Loop& loop, Log& log, std::string root, PermissionCheck check);

    Tree& tree() { return tree_; }
    Presence& presence() { return presence_; }
    /// The caller has left or its connection is closed.
    void left(const std::string& caller);

    /// Answers a method call. False when it is none of its business (a signal, org.freedesktop.DBus.Peer).
    bool take(Connection& connection, sd_bus_message* message) noexcept;

    bool busy() const { return !calls_->empty(); }
    /// Drops the calls that are under way, answering none.
    void drop_all();

private:
    void route(Connection& connection, sd_bus_message* message);
    void start(Connection& connection, sd_bus_message* message, const Keys& keys, const Method& method, void* handler);
    Task<> serve(std::unique_ptr<Call> call, const Method& method, void* handler);

    Log& log_;
    Tree tree_;
    Presence presence_;
    Permissions permissions_;

    std::unique_ptr<Scope> calls_;  // last: the calls under way use everything above
};

}  // namespace virtbus::dbus
