// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/presence.hpp"

#include <unordered_map>
#include <vector>

namespace virtbus::dbus {

struct Presence::Watcher {
    std::function<void()> gone;
};

struct Presence::Guests {
    std::unordered_map<std::string, std::vector<std::weak_ptr<Watcher>>> watchers;
};

Presence::Presence(Loop& loop) : loop_{loop}, guests_{std::make_unique<Guests>()} {}
Presence::~Presence() = default;

void Presence::arrived(const std::string& name) {
    guests_->watchers.try_emplace(name);
}

void Presence::left(const std::string& name) {
    // Taken out first: whoever is told may ask about others, or let go of watches.
    const auto node = guests_->watchers.extract(name);
    if (!node) return;
    for (const auto& watcher : node.mapped())
        if (const auto told = watcher.lock()) told->gone();
}

bool Presence::empty() const {
    return guests_->watchers.empty();
}
bool Presence::present(const std::string& name) const {
    return guests_->watchers.contains(name);
}

std::vector<std::string> Presence::take_expected() {
    expecting_ = false;
    std::vector<std::string> names;
    for (const auto& [name, watchers] : guests_->watchers) names.push_back(name);
    return names;
}

Registration Presence::when_gone(const Caller& caller, std::function<void()> gone) {
    struct Watch final : Registered {
        explicit Watch(std::shared_ptr<Watcher> held) : watcher{std::move(held)} {}
        std::shared_ptr<Watcher> watcher;
    };
    auto watcher = std::make_shared<Watcher>(Watcher{std::move(gone)});
    if (expecting_ && caller.on_bus) arrived(caller.name);
    const auto found = guests_->watchers.find(caller.name);
    if (found == guests_->watchers.end()) {
        loop_.post([late = std::weak_ptr{watcher}] {
            if (const auto told = late.lock()) told->gone();
        });
    } else {
        auto& watchers = found->second;
        if (watchers.size() >= 64 && watchers.size() == watchers.capacity())
            std::erase_if(watchers, [](const auto& one) { return one.expired(); });
        watchers.push_back(watcher);
    }
    return std::make_unique<Watch>(std::move(watcher));
}

}  // namespace virtbus::dbus
