// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/standard.hpp"

#include <fmt/format.h>
#include <systemd/sd-bus.h>

#include "dbus/server/message.hpp"
#include "virtbus/error.hpp"

namespace virtbus::dbus {

namespace {

constexpr std::string_view standard_interfaces =
    R"( <interface name="org.freedesktop.DBus.Peer">
  <method name="Ping"/>
  <method name="GetMachineId"><arg name="machine_uuid" type="s" direction="out"/></method>
 </interface>
 <interface name="org.freedesktop.DBus.Introspectable">
  <method name="Introspect"><arg name="xml_data" type="s" direction="out"/></method>
 </interface>
)";
constexpr std::string_view properties_interface =
    R"( <interface name="org.freedesktop.DBus.Properties">
  <method name="Get"><arg name="interface_name" type="s" direction="in"/><arg name="property_name" type="s" direction="in"/><arg name="value" type="v" direction="out"/></method>
  <method name="GetAll"><arg name="interface_name" type="s" direction="in"/><arg name="properties" type="a{sv}" direction="out"/></method>
  <method name="Set"><arg name="interface_name" type="s" direction="in"/><arg name="property_name" type="s" direction="in"/><arg name="value" type="v" direction="in"/></method>
  <signal name="PropertiesChanged"><arg name="interface_name" type="s"/><arg name="changed_properties" type="a{sv}"/><arg name="invalidated_properties" type="as"/></signal>
 </interface>
)";
constexpr std::string_view manager_interface =
    R"( <interface name="org.freedesktop.DBus.ObjectManager">
  <method name="GetManagedObjects"><arg name="objects" type="a{oa{sa{sv}}}" direction="out"/></method>
  <signal name="InterfacesAdded"><arg name="object" type="o"/><arg name="interfaces_and_properties" type="a{sa{sv}}"/></signal>
  <signal name="InterfacesRemoved"><arg name="object" type="o"/><arg name="interfaces" type="as"/></signal>
 </interface>
)";

struct Context {
    const Tree& tree;
    Connection& connection;
    sd_bus_message* call;
    std::string_view path{sd_bus_message_get_path(call)};

    Tree::Found object() const {
        auto found = tree.find(path);
        if (!found) throw Error{Code::unknown_object, fmt::format("there is no object {}", path)};
        return std::move(*found);
    }
    template <class Fill>
    void answer(Fill fill) const {
        if (sd_bus_message_get_expect_reply(call) <= 0) return;
        Message reply = Message::reply_to(call);
        Writer out{reply.get()};
        fill(out);
        if (sd_bus_send(sd_bus_message_get_bus(call), reply.get(), nullptr) >= 0) connection.sent(out.bytes());
    }
    std::string_view string() const {
        const char* text = nullptr;
        sd_bus_message_read_basic(call, 's', &text);
        return text;
    }
};

/// Appends the entries of an a{sv}: all properties.
void put_properties(Writer& out, const Interface& interface, const void* view) {
    for (const Property& property : interface.properties) {
        out.open('e', "sv");
        out.string(property.name);
        out.open_variant(property.signature);
        property.put(out, view);
        out.close();
        out.close();
    }
}

bool is_standard_interface(std::string_view name) {
    return name == "org.freedesktop.DBus.Peer" || name == "org.freedesktop.DBus.Introspectable" ||
           name == "org.freedesktop.DBus.Properties" || name == "org.freedesktop.DBus.ObjectManager";
}

/// The object's interface of that name, all of them if the name is left open, none for a standard one: these have no
/// properties.
std::span<const Offer> named(const Context& context, const Tree::Found& object, std::string_view name) {
    if (name.empty()) return object.offers;
    for (const Offer& offer : object.offers)
        if (name == offer.interface->name) return {&offer, 1};
    if (is_standard_interface(name)) return {};
    throw Error{Code::unknown_interface, fmt::format("{} has no interface {}", context.path, name)};
}

const Property& property_named(const Context& context, const Tree::Found& object) {
    const std::string_view interface_name = context.string();
    const std::string_view name = context.string();
    for (const Offer& offer : named(context, object, interface_name))
        if (const Property* property = offer.interface->property(name)) return *property;
    throw Error{Code::unknown_property, fmt::format("{} has no property {}.{}", context.path, interface_name, name)};
}

void get(const Context& context) {
    const auto object = context.object();
    const Property& property = property_named(context, object);
    context.answer([&](Writer& out) {
        out.open_variant(property.signature);
        property.put(out, object.view);
        out.close();
    });
}

void get_all(const Context& context) {
    const auto object = context.object();
    const auto offers = named(context, object, context.string());
    context.answer([&](Writer& out) {
        out.open('a', "{sv}");
        for (const Offer& offer : offers) put_properties(out, *offer.interface, object.view);
        out.close();
    });
}

void set(const Context& context) {
    const auto object = context.object();
    const Property& property = property_named(context, object);
    throw Error{Code::property_read_only,
                fmt::format("{} of {} is read-only; what can be changed has a method", property.name, context.path)};
}

void introspect(const Context& context) {
    const auto children = context.tree.children(context.path);
    const auto object = context.tree.find(context.path);
    if (!children && !object) throw Error{Code::unknown_object, fmt::format("there is no object {}", context.path)};
    std::string xml =
        "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n"
        "\"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n";
    xml += standard_interfaces;
    if (object) xml += properties_interface;
    if (object)
        for (const Offer& offer : object->offers) xml += offer.interface->introspection;
    if (object && object->manager) xml += manager_interface;
    if (children)
        for (const auto& name : *children) xml += fmt::format(" <node name=\"{}\"/>\n", name);
    xml += "</node>\n";
    context.answer([&](Writer& out) { out.string(xml); });
}

void get_managed_objects(const Context& context) {
    const auto object = context.object();
    if (!object.manager)
        throw Error{Code::unknown_interface,
                    fmt::format("{} has no interface org.freedesktop.DBus.ObjectManager", context.path)};
    if (context.connection.congested())
        throw Error{Code::limits_exceeded, "read the answers that are on their way to you before asking for more"};
    try {
        context.answer([&](Writer& out) {
            out.open('a', "{oa{sa{sv}}}");
            context.tree.managed(context.path,
                                 [&](const std::string& path, std::span<const Offer> offers, const void* view) {
                                     out.open('e', "oa{sa{sv}}");
                                     out.path(path);
                                     put_interfaces(out, offers, view);
                                     out.close();
                                 });
            out.close();
        });
    } catch (const Error& error) {
        if (error.code() != Code::limits_exceeded) throw;
        const bool root = context.path == context.tree.root();
        throw Error{Code::limits_exceeded,
                    fmt::format("the list of all objects has more than {} bytes; {}", largest_answer,
                                root ? "read it in pages with ListDomains and its options limit and after"
                                     : "read them one by one; Introspect names them")};
    }
}

struct Entry {
    std::string_view interface, member, signature;
    void (*answer)(const Context&);
};
constexpr Entry entries[] = {
    {"org.freedesktop.DBus.Properties", "Get", "ss", get},
    {"org.freedesktop.DBus.Properties", "GetAll", "s", get_all},
    {"org.freedesktop.DBus.Properties", "Set", "ssv", set},
    {"org.freedesktop.DBus.Introspectable", "Introspect", "", introspect},
    {"org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "", get_managed_objects},
};

}  // namespace

void put_interfaces(Writer& out, std::span<const Offer> offers, const void* view) {
    out.open('a', "{sa{sv}}");
    for (const Offer& offer : offers) {
        out.open('e', "sa{sv}");
        out.string(offer.interface->name);
        out.open('a', "{sv}");
        put_properties(out, *offer.interface, view);
        out.close();
        out.close();
    }
    out.close();
}

bool answer_standard(const Tree& tree, Connection& connection, sd_bus_message* call) {
    const char* const interface = sd_bus_message_get_interface(call);
    const std::string_view member{sd_bus_message_get_member(call)};
    if (interface && !is_standard_interface(interface)) return false;
    for (const Entry& entry : entries) {
        if (entry.member != member || (interface && entry.interface != interface)) continue;
        if (const std::string_view found = sd_bus_message_get_signature(call, 1); found != entry.signature)
            throw Error{Code::invalid_args,
                        fmt::format("{} takes the arguments '{}', not '{}'", member, entry.signature, found)};
        entry.answer(Context{tree, connection, call});
        return true;
    }
    if (!interface) return false;
    throw Error{Code::unknown_method, fmt::format("{} has no method {}", interface, member)};
}

}  // namespace virtbus::dbus
