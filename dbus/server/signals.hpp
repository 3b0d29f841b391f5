// SPDX-License-Identifier: LGPL-2.1-or-later
// Sends signals to everybody who listens: each bus and each peer. Which change makes which signal is decided by the
// faces and by the property tables.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "dbus/server/connection.hpp"
#include "dbus/server/interface.hpp"

namespace virtbus {
class Log;
}

namespace virtbus::dbus {

class Signals {
public:
    Signals(Log& log, std::string root) : log_{log}, root_{std::move(root)} {}

    void join(Connection& connection) { listeners_.push_back(&connection); }
    void leave(Connection& connection);

    void emit(const std::string& path, const char* interface, const char* member,
              const std::function<void(Writer& out)>& fill);
    /// PropertiesChanged with what differs between the views; nothing when nothing does.
    void properties_changed(const std::string& path, const Interface& interface, const void* before, const void* now);
    void added(const std::string& path, const Interface& interface, const void* view);
    void removed(const std::string& path, const Interface& interface);

private:
    Log& log_;
    std::string root_;
    std::vector<Connection*> listeners_;
};

}  // namespace virtbus::dbus
