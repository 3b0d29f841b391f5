// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/hotplug/departure.hpp"

#include <fmt/format.h>

namespace virtbus::qemu {

Departure::Departure(CorePtr core, std::string name)
    : core_{std::move(core)},
      name_{std::move(name)},
      gone_{core_->ports.loop},
      entry_{core_->departures.emplace(name_, gone_.promise())} {}

Departure::~Departure() {
    core_->departures.erase(entry_);
}

Task<bool> Departure::wait(Deadline deadline, std::stop_token stop) {
    try {
        co_await gone_.wait(fmt::format("the departure of '{}'", name_), deadline, std::move(stop));
    } catch (const Error& error) {
        if (error.code() != Code::timeout) throw;
        co_return false;
    }
    co_return true;
}

}  // namespace virtbus::qemu
