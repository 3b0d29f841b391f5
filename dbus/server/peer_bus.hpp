// SPDX-License-Identifier: LGPL-2.1-or-later
// As much of org.freedesktop.DBus as clients of a message bus ask for, so that they can talk to virtbus on its socket,
// where there is no bus: every peer is alone with the service.
#pragma once

#include <cstdint>
#include <set>
#include <string>

struct sd_bus;
struct sd_bus_message;

namespace virtbus::dbus {

class PeerBus {
public:
    PeerBus(std::string service, std::uint64_t number, std::uint32_t uid, std::uint32_t pid);

    /// Answers a call to org.freedesktop.DBus, or to a name that is not served here. False: it is for the service.
    bool take(sd_bus_message* call);
    /// Nobody hears signals before having spoken, since a client of a bus gives up when anything comes before the
    /// answer to its Hello; and such a client hears them only after it has asked for some.
    bool wants_signals() const { return spoke_ && (!greeted_ || monitors_ || !matches_.empty()); }

    /// The unique name of the service on every peer's connection.
    static constexpr const char* own_name = ":1.0";

private:
    struct Entry;
    static const Entry entries[];
    bool is_ours(const std::string& name) const { return name == service_ || name == own_name; }
    std::string owner(const std::string& name) const;
    void require_owner(const std::string& name) const;

    std::string hello();
    void add_match(const std::string& rule);
    void remove_match(const std::string& rule);
    void tell_name_lost(sd_bus* bus) const;

    std::string service_, name_;
    std::uint32_t uid_, pid_;
    bool spoke_ = false, greeted_ = false, monitors_ = false;
    std::multiset<std::string> matches_;
};

}  // namespace virtbus::dbus
