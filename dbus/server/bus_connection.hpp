// SPDX-License-Identifier: LGPL-2.1-or-later
// The connection to the system or session bus: owns the name, knows who the callers behind it are and when they leave.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dbus/server/bus_source.hpp"
#include "dbus/server/connection.hpp"
#include "dbus/server/dispatcher.hpp"
#include "virtbus/reply.hpp"

struct sd_bus_slot;

namespace virtbus::dbus {

struct BusOptions {
    bool system = false;  ///< the system bus, else the session bus; their addresses are taken from the environment
    std::string name;     ///< to own, e.g. "org.virtbus1"
    /// On the session bus: who a caller is taken for that left before it could be asked about.
    std::optional<std::uint32_t> assumed_uid;
};

class BusConnection final : public Connection {
public:
    /// Connects, waiting for the bus. `lost` is told when the bus goes away.
    BusConnection(Dispatcher& dispatcher, Loop& loop, BusOptions options, std::function<void(std::string why)> lost);
    ~BusConnection() override;

    /// Takes the name; AlreadyExists when another process has it.
    void own_name();
    void release_name();

    sd_bus* bus() const override { return bus_; }
    std::string sender(sd_bus_message* message) const override;
    Task<> identify(Caller& caller) override;
    bool wants_signals() const override { return true; }

private:
    struct Identity {
        std::uint32_t uid = 0, pid = 0;
        bool known = false;
        std::string fault;
        std::vector<Reply<>::Promise> waiting;
    };
    void watch_names();
    void look_up_earlier_callers();
    void ask(const std::string& name);
    void learnt(const std::string& name, sd_bus_message* answer);

    Dispatcher& dispatcher_;
    Loop& loop_;
    BusOptions options_;
    sd_bus* bus_ = nullptr;
    std::map<std::string, Identity> identities_;
    std::vector<sd_bus_slot*> slots_;
    std::optional<BusSource> source_;
};

}  // namespace virtbus::dbus
