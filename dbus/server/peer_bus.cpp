// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/peer_bus.hpp"

#include <fmt/format.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <array>

#include "dbus/server/message.hpp"
#include "dbus/server/wire.hpp"
#include "virtbus/error.hpp"

namespace virtbus::dbus {

namespace {

constexpr std::size_t most_matches = 512;
constexpr std::size_t longest_match = 1024;
constexpr std::size_t longest_name = 255;

constexpr std::string_view introspection =
    R"(<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
<node>
 <interface name="org.freedesktop.DBus">
  <method name="Hello"><arg name="name" type="s" direction="out"/></method>
  <method name="AddMatch"><arg name="rule" type="s" direction="in"/></method>
  <method name="RemoveMatch"><arg name="rule" type="s" direction="in"/></method>
  <method name="GetNameOwner"><arg name="name" type="s" direction="in"/><arg name="owner" type="s" direction="out"/></method>
  <method name="NameHasOwner"><arg name="name" type="s" direction="in"/><arg name="owned" type="b" direction="out"/></method>
  <method name="ListNames"><arg name="names" type="as" direction="out"/></method>
  <method name="GetId"><arg name="id" type="s" direction="out"/></method>
 </interface>
</node>
)";

/// A refusal with a name of the bus's own, which no Code has.
struct BusFault {
    const char* name;
    std::string message;
};

}  // namespace

struct PeerBus::Entry {
    const char* member;
    const char* signature;
    void (*answer)(PeerBus& self, sd_bus_message* call, Reader& in, Writer& out);
};

PeerBus::PeerBus(std::string service, std::uint64_t number, std::uint32_t uid, std::uint32_t pid)
    : service_{std::move(service)}, name_{fmt::format(":1.{}", number)}, uid_{uid}, pid_{pid} {}

std::string PeerBus::owner(const std::string& name) const {
    if (is_ours(name)) return own_name;
    if (name == name_ || name == "org.freedesktop.DBus") return name;
    return "";
}

void PeerBus::require_owner(const std::string& name) const {
    if (owner(name).empty())
        throw BusFault{"org.freedesktop.DBus.Error.NameHasNoOwner", fmt::format("nobody owns the name {}", name)};
}

std::string PeerBus::hello() {
    if (greeted_) throw BusFault{"org.freedesktop.DBus.Error.Failed", "Hello has been said already"};
    greeted_ = true;
    return name_;
}

void PeerBus::add_match(const std::string& rule) {
    if (matches_.size() >= most_matches)
        throw Error{Code::limits_exceeded, fmt::format("a connection has at most {} match rules", most_matches)};
    matches_.insert(rule);
}

void PeerBus::remove_match(const std::string& rule) {
    const auto found = matches_.find(rule);
    if (found == matches_.end())
        throw BusFault{"org.freedesktop.DBus.Error.MatchRuleNotFound", fmt::format("there is no match rule {}", rule)};
    matches_.erase(found);
}

/// A bus takes its name away from a connection that becomes a monitor; busctl shows nothing that comes before.
void PeerBus::tell_name_lost(sd_bus* bus) const {
    sd_bus_message* made = nullptr;
    if (sd_bus_message_new_signal(bus, &made, "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameLost") < 0) return;
    const Message signal{made};
    sd_bus_message_set_sender(made, "org.freedesktop.DBus");
    sd_bus_message_set_destination(made, name_.c_str());
    sd_bus_message_append(made, "s", name_.c_str());
    sd_bus_send(bus, made, nullptr);
}

const PeerBus::Entry PeerBus::entries[] = {
    {"Hello", "", [](PeerBus& self, sd_bus_message*, Reader&, Writer& out) { out.string(self.hello()); }},
    {"AddMatch", "s",
     [](PeerBus& self, sd_bus_message*, Reader& in, Writer&) {
         self.add_match(in.string(longest_match, "the match rule"));
     }},
    {"RemoveMatch", "s",
     [](PeerBus& self, sd_bus_message*, Reader& in, Writer&) {
         self.remove_match(in.string(longest_match, "the match rule"));
     }},
    {"GetNameOwner", "s",
     [](PeerBus& self, sd_bus_message*, Reader& in, Writer& out) {
         const std::string name = in.string(longest_name, "the name");
         self.require_owner(name);
         out.string(self.owner(name));
     }},
    {"NameHasOwner", "s",
     [](PeerBus& self, sd_bus_message*, Reader& in, Writer& out) {
         out.boolean(!self.owner(in.string(longest_name, "the name")).empty());
     }},
    {"ListNames", "",
     [](PeerBus& self, sd_bus_message*, Reader&, Writer& out) {
         put(out, std::vector<std::string>{"org.freedesktop.DBus", self.service_, own_name, self.name_});
     }},
    {"ListActivatableNames", "",
     [](PeerBus&, sd_bus_message*, Reader&, Writer& out) {
         put(out, std::vector<std::string>{"org.freedesktop.DBus"});
     }},
    {"ListQueuedOwners", "s",
     [](PeerBus& self, sd_bus_message*, Reader& in, Writer& out) {
         const std::string name = in.string(longest_name, "the name");
         self.require_owner(name);
         put(out, std::vector<std::string>{self.owner(name)});
     }},
    {"RequestName", "su",
     [](PeerBus&, sd_bus_message*, Reader&, Writer&) {
         throw Error{Code::access_denied, "there is no bus here on which a name could be owned"};
     }},
    {"ReleaseName", "s", [](PeerBus&, sd_bus_message*, Reader&, Writer& out) { out.uint32(2); }},  // no such name
    {"StartServiceByName", "su",
     [](PeerBus& self, sd_bus_message*, Reader& in, Writer& out) {
         const std::string name = in.string(longest_name, "the name");
         if (!self.is_ours(name))
             throw BusFault{"org.freedesktop.DBus.Error.ServiceUnknown", fmt::format("{} is not served here", name)};
         out.uint32(2);  // already running
     }},
    {"GetId", "",
     [](PeerBus&, sd_bus_message* call, Reader&, Writer& out) {
         sd_id128_t id{};
         sd_bus_get_bus_id(sd_bus_message_get_bus(call), &id);
         std::array<char, SD_ID128_STRING_MAX> text{};
         out.string(sd_id128_to_string(id, text.data()));
     }},
    {"GetConnectionUnixUser", "s",
     [](PeerBus& self, sd_bus_message*, Reader& in, Writer& out) {
         const std::string name = in.string(longest_name, "the name");
         self.require_owner(name);
         out.uint32(name == self.name_ ? self.uid_ : ::getuid());
     }},
    {"GetConnectionUnixProcessID", "s",
     [](PeerBus& self, sd_bus_message*, Reader& in, Writer& out) {
         const std::string name = in.string(longest_name, "the name");
         self.require_owner(name);
         out.uint32(name == self.name_ ? self.pid_ : static_cast<std::uint32_t>(::getpid()));
     }},
    {"GetConnectionCredentials", "s",
     [](PeerBus& self, sd_bus_message*, Reader& in, Writer& out) {
         const std::string name = in.string(longest_name, "the name");
         self.require_owner(name);
         const bool itself = name == self.name_;
         put(out, Dictionary{{"UnixUserID", itself ? self.uid_ : ::getuid()},
                             {"ProcessID", itself ? self.pid_ : static_cast<std::uint32_t>(::getpid())}});
     }},
    {"BecomeMonitor", "asu", [](PeerBus& self, sd_bus_message*, Reader&, Writer&) { self.monitors_ = true; }},
    {"Introspect", "", [](PeerBus&, sd_bus_message*, Reader&, Writer& out) { out.string(introspection); }},
};

bool PeerBus::take(sd_bus_message* call) {
    spoke_ = true;
    const char* const to = sd_bus_message_get_destination(call);
    const char* const interface = sd_bus_message_get_interface(call);
    const bool for_bus = to ? std::string_view{to} == "org.freedesktop.DBus"
                            : interface && std::string_view{interface} == "org.freedesktop.DBus";
    if (!for_bus && (!to || is_ours(to))) return false;
    const std::string_view member{sd_bus_message_get_member(call)};
    if (interface && std::string_view{interface} == "org.freedesktop.DBus.Peer") return false;
    try {
        if (!for_bus)
            throw BusFault{"org.freedesktop.DBus.Error.ServiceUnknown",
                           fmt::format("{} is not served here, only {}", to, service_)};
        for (const Entry& entry : entries) {
            if (entry.member != member) continue;
            if (std::string_view{sd_bus_message_get_signature(call, 1)} != entry.signature)
                throw Error{Code::invalid_args, fmt::format("{} takes the arguments '{}'", member, entry.signature)};
            Message reply = Message::reply_to(call);
            sd_bus_message_set_sender(reply.get(), "org.freedesktop.DBus");
            Reader in{call};
            Writer out{reply.get()};
            entry.answer(*this, call, in, out);
            if (sd_bus_message_get_expect_reply(call) > 0)
                sd_bus_send(sd_bus_message_get_bus(call), reply.get(), nullptr);
            if (member == "BecomeMonitor") tell_name_lost(sd_bus_message_get_bus(call));
            return true;
        }
        throw Error{Code::unknown_method, fmt::format("the socket's org.freedesktop.DBus has no method {}", member)};
    } catch (const BusFault& fault) {
        const sd_bus_error error{fault.name, fault.message.c_str(), 0};
        sd_bus_reply_method_error(call, &error);
    }
    return true;
}

}  // namespace virtbus::dbus
