// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: the engine with lamps below /org/example, a permission check that the test rules, and peers to call from.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dbus/server/dispatcher.hpp"
#include "dbus/server/peers.hpp"
#include "dbus/server/signals.hpp"
#include "tests/dbus/lamp_interface.hpp"
#include "tests/support/bus_client.hpp"
#include "virtbus/ports.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::dbus {

struct CollectedLog final : Log {
    void write(Priority, std::string_view message, const Fields&) override { text += std::string{message} + "\n"; }
    std::string text;
};

class Lamps final : public Kind, public LampMethods {
public:
    explicit Lamps(Loop& loop) : loop_{loop} {}

    const Interface& interface() const override { return lamp_interface; }
    void* handler() override { return static_cast<LampMethods*>(this); }
    const void* find(const Keys& keys) const override {
        const auto found = views.find(keys[0]);
        return found == views.end() ? nullptr : &found->second;
    }
    void list(const Keys&, const std::function<void(std::string_view, const void*)>& each) const override {
        for (const auto& [key, view] : views) each(key, &view);
    }

    Subject subject(const Call& call) override {
        const auto found = views.find(call.keys()[0]);
        if (found == views.end()) return {{{"lamp", call.keys()[0]}}, false};
        return {{{"lamp", call.keys()[0]}, {"name", found->second.name}}};
    }
    Task<std::string> switch_(Call& call, bool lit, LampSwitchOptions options) override;
    Task<std::string> look(Call& call) override { co_return get(call).name; }
    Task<> break_(Call& call, std::string how) override;
    Task<> wait(Call& call) override;
    Task<LampShineResult> shine(Call& call) override;
    Task<std::string> glow(Call& call, std::uint32_t bytes) override;
    Task<> engrave(Call& call, std::string text) override;

    std::map<std::string, LampView> views;
    Signals* signals = nullptr;
    unsigned handled = 0;
    Caller last_caller;
    std::vector<Reply<>::Promise> waiting;

private:
    LampView& get(const Call& call);
    Loop& loop_;
};

/// Answers questions at once, or when the test says so.
struct Rules {
    explicit Rules(Loop& on) : loop{on} {}
    Task<> check(Caller caller, std::string action, Details details, std::stop_token stop);

    Loop& loop;
    bool allowed = true, held = false;
    struct Question {
        std::string action;
        Details details;
        bool interactive;
    };
    std::vector<Question> asked;
    std::vector<Reply<>::Promise> pending;
    unsigned dropped = 0;
};

struct Bed {
    Bed() {
        dispatcher.tree().add("lamp/*", lamps);
        lamps.signals = &signals;
        lamps.views["one"] = {"the first", false, 3, {"made"}, "two"};
        lamps.views["two"] = {"the second", true, 7, {}, ""};
    }
    ~Bed() { dispatcher.drop_all(); }

    host::MainLoop loop;
    CollectedLog log;
    Rules rules{loop};
    Lamps lamps{loop};
    Dispatcher dispatcher{
        loop, log, "/org/example", [this](Caller caller, std::string action, Details details, std::stop_token stop) {
            return rules.check(std::move(caller), std::move(action), std::move(details), std::move(stop));
        }};
    Signals signals{log, dispatcher.tree()};
    Peers peers{dispatcher, signals, loop, log, options()};

    static PeerOptions options() {
        PeerOptions made;
        made.service = "org.example";
        made.patience = Duration{50};
        made.most_per_uid = 4;
        return made;
    }
    Fd connect() {
        tests::SocketPair pair;
        peers.admit(std::move(pair.server));
        return std::move(pair.client);
    }
    /// Lets the loop run until everything that was sent has been looked at: a call answered after it.
    bool run_until(const std::function<bool()>& condition) { return loop.run_until(condition, tests::patience); }
};

inline constexpr const char* lamp = "org.example.Lamp";
inline constexpr const char* properties = "org.freedesktop.DBus.Properties";

}  // namespace virtbus::dbus
