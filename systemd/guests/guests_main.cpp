// SPDX-License-Identifier: LGPL-2.1-or-later
// virtbus-guests CONFIGURATION: run by virtbus-guests.service when the host stops. Asks virtbusd to shut down, save or
// stop every running guest, all at once, and waits until they are down or the time is over.
#include <poll.h>
#include <sdbus-c++/sdbus-c++.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "guests/settings.hpp"

namespace {

using namespace virtbus::systemd;
using Clock = std::chrono::steady_clock;
using Options = std::map<std::string, sdbus::Variant>;
using Properties = std::map<std::string, sdbus::Variant>;
using Objects = std::map<sdbus::ObjectPath, std::map<std::string, Properties>>;

constexpr auto bus_name = "org.virtbus1";
constexpr auto domain_interface = "org.virtbus1.Domain";
constexpr std::chrono::seconds last_resort{10};

void say(const std::string& text) {
    std::fprintf(stderr, "%s\n", text.c_str());
}

bool is_down(const std::string& state) {
    return state == "shutoff";
}

class Guest {
public:
    Guest(sdbus::IConnection& connection, const sdbus::ObjectPath& path, const Properties& properties)
        : name_{properties.at("Name").get<std::string>()},
          uuid_{properties.at("UUID").get<std::string>()},
          proxy_{sdbus::createProxy(connection, bus_name, path)} {
        proxy_->uponSignal("StateChanged")
            .onInterface(domain_interface)
            .call([this](const std::string&, const std::string& now, const std::string&) { state_ = now; });
        proxy_->finishRegistration();
        // Asked only now that a change cannot be missed any more.
        state_ = proxy_->getProperty("State").onInterface(domain_interface).get<std::string>();
    }

    const std::string& name() const { return name_; }
    const std::string& uuid() const { return uuid_; }
    bool down() const { return is_down(state_); }

    void end(OnStop how) {
        switch (how) {
            case OnStop::save:
                // Its reply is waited for, as it tells of most failures.
                call("ManagedSave", {}, [this] { end(OnStop::shutdown); });
                return;
            case OnStop::shutdown:
                // A paused guest cannot hear the button.
                if (state_ == "paused") call("Resume", {}, [] {});
                call("Shutdown", {}, [] {});
                return;
            case OnStop::stop:
                call("Stop", {{"no-wait", sdbus::Variant{true}}}, [] {});
                return;
        }
    }

private:
    template <class Otherwise>
    void call(const char* verb, Options options, Otherwise otherwise) {
        say(name_ + ": " + verb);
        const auto answered = [this, verb, otherwise](const sdbus::Error* error) {
            if (!error || down()) return;
            say(name_ + ": " + verb + " failed: " + error->getMessage());
            otherwise();
        };
        // Verbs that come with a job's path answer with it, the others with nothing; neither matters here.
        auto message = proxy_->createMethodCall(domain_interface, verb);
        message << options;
        proxy_->callMethod(message, [answered](sdbus::MethodReply&, const sdbus::Error* error) { answered(error); });
    }

    std::string name_, uuid_, state_;
    std::unique_ptr<sdbus::IProxy> proxy_;
};

using Guests = std::vector<std::unique_ptr<Guest>>;

Guests running_guests(sdbus::IConnection& connection) {
    Objects objects;
    sdbus::createProxy(connection, bus_name, "/org/virtbus1")
        ->callMethod("GetManagedObjects")
        .onInterface("org.freedesktop.DBus.ObjectManager")
        .withTimeout(std::chrono::seconds{20})
        .storeResultsTo(objects);
    Guests guests;
    for (const auto& [path, interfaces] : objects) {
        const auto domain = interfaces.find(domain_interface);
        if (domain == interfaces.end() || is_down(domain->second.at("State").get<std::string>())) continue;
        guests.push_back(std::make_unique<Guest>(connection, path, domain->second));
    }
    return guests;
}

/// Serves the bus until all are down or the time is over; true when they are.
bool wait_until_down(sdbus::IConnection& connection, const Guests& guests, Clock::time_point deadline) {
    for (;;) {
        while (connection.processPendingRequest()) {
        }
        if (std::ranges::all_of(guests, [](const auto& guest) { return guest->down(); })) return true;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        if (left <= 0) return false;
        const auto wanted = connection.getEventLoopPollData();
        const int bus_timeout = wanted.getPollTimeout();
        pollfd ready{wanted.fd, wanted.events, 0};
        ::poll(&ready, 1, bus_timeout < 0 ? static_cast<int>(left) : std::min(static_cast<int>(left), bus_timeout));
    }
}

int end_all(const GuestSettings& settings) {
    auto connection = sdbus::createSystemBusConnection();
    const auto guests = running_guests(*connection);
    say("running guests: " + std::to_string(guests.size()));
    for (const auto& guest : guests) guest->end(settings.for_domain(guest->name(), guest->uuid()));
    if (wait_until_down(*connection, guests, Clock::now() + settings.timeout)) return 0;
    for (const auto& guest : guests) {
        if (guest->down()) continue;
        say(guest->name() + ": not down after " + std::to_string(settings.timeout.count()) + " s");
        guest->end(OnStop::stop);
    }
    return wait_until_down(*connection, guests, Clock::now() + last_resort) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        GuestSettings settings;
        try {
            if (argc > 1) settings = load_guest_settings(argv[1]);
        } catch (const std::exception& error) {
            say(std::string{error.what()} + "; going on with the defaults");
        }
        return end_all(settings);
    } catch (const std::exception& error) {
        say(std::string{"virtbusd does not answer, so its guests are left to their units: "} + error.what());
        return 1;
    }
}
