// SPDX-License-Identifier: LGPL-2.1-or-later
// The interfaces every object has, answered from the tables and the views: Properties, Introspectable, ObjectManager.
// org.freedesktop.DBus.Peer is left to sd-bus.
#pragma once

#include <string_view>

#include "dbus/server/connection.hpp"
#include "dbus/server/tree.hpp"

namespace virtbus::dbus {

class Writer;

/// Answers a call of one of these interfaces (or of none, when the member is one of theirs). False: it is not theirs.
/// Throws what the call deserves otherwise.
bool answer_standard(const Tree& tree, Connection& connection, sd_bus_message* call);

/// Appends a{sa{sv}}: the interfaces with their properties, as in InterfacesAdded.
void put_interfaces(Writer& out, std::span<const Offer> offers, const void* view);

}  // namespace virtbus::dbus
