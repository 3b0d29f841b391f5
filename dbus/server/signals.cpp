// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/signals.hpp"

#include <fmt/format.h>
#include <systemd/sd-bus.h>

#include "dbus/server/message.hpp"
#include "dbus/server/standard.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::dbus {

void Signals::leave(Connection& connection) {
    std::erase(listeners_, &connection);
}

void Signals::emit(const std::string& path, const char* interface, const char* member,
                   const std::function<void(Writer&)>& fill) {
    for (Connection* listener : listeners_) {
        if (!listener->wants_signals()) continue;
        try {
            const Message message = Message::signal(listener->bus(), path, interface, member);
            Writer out{message.get()};
            fill(out);
            if (sd_bus_send(listener->bus(), message.get(), nullptr) >= 0) listener->sent(out.bytes());
        } catch (const std::exception& error) {
            log_.error(fmt::format("the signal {} of {} was not sent: {}", member, path, error.what()));
        }
    }
}

void Signals::properties_changed(const std::string& path, const Interface& interface, const void* before,
                                 const void* now) {
    std::vector<const Property*> changed, invalidated;
    for (const Property& property : interface.properties) {
        if (property.emits == Emits::changes && !property.same(before, now)) changed.push_back(&property);
        if (property.emits == Emits::invalidation && !property.same(before, now)) invalidated.push_back(&property);
    }
    if (changed.empty() && invalidated.empty()) return;
    emit(path, "org.freedesktop.DBus.Properties", "PropertiesChanged", [&](Writer& out) {
        out.string(interface.name);
        out.open('a', "{sv}");
        for (const Property* property : changed) {
            out.open('e', "sv");
            out.string(property->name);
            out.open_variant(property->signature);
            property->put(out, now);
            out.close();
            out.close();
        }
        out.close();
        out.open('a', "s");
        for (const Property* property : invalidated) out.string(property->name);
        out.close();
    });
}

void Signals::added(const std::string& path, const void* view) {
    const auto kind = tree_.kind_at(path);
    if (!kind) return;
    emit(tree_.manager_of(path), "org.freedesktop.DBus.ObjectManager", "InterfacesAdded", [&](Writer& out) {
        out.path(path);
        put_interfaces(out, kind->offers, view);
    });
}

void Signals::removed(const std::string& path) {
    const auto kind = tree_.kind_at(path);
    if (!kind) return;
    emit(tree_.manager_of(path), "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved", [&](Writer& out) {
        out.path(path);
        out.open('a', "s");
        for (const Offer& offer : kind->offers) out.string(offer.interface->name);
        out.close();
    });
}

}  // namespace virtbus::dbus
