// SPDX-License-Identifier: LGPL-2.1-or-later
// Sends signals to everybody who listens: each bus and each peer. Which change makes which signal is decided by the
// faces and by the property tables.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "dbus/server/connection.hpp"
#include "dbus/server/tree.hpp"

namespace virtbus {
class Log;
}

namespace virtbus::dbus {

class Signals {
public:
    Signals(Log& log, const Tree& tree) : log_{log}, tree_{tree} {}

    void join(Connection& connection) { listeners_.push_back(&connection); }
    void leave(Connection& connection);

    void emit(const std::string& path, const char* interface, const char* member,
              const std::function<void(Writer& out)>& fill);
    /// PropertiesChanged with what differs between the views; nothing when nothing does.
    void properties_changed(const std::string& path, const Interface& interface, const void* before, const void* now);
    /// Said by the ObjectManager that the object belongs to, with all the interfaces it has.
    void added(const std::string& path, const void* view);
    void removed(const std::string& path);

private:
    Log& log_;
    const Tree& tree_;
    std::vector<Connection*> listeners_;
};

}  // namespace virtbus::dbus
