// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/drivers.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "service/names.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

HypervisorDriver* Drivers::find_by_type(std::string_view type) const {
    for (auto* driver : list_) {
        const auto types = driver->types();
        if (std::find(types.begin(), types.end(), type) != types.end()) return driver;
    }
    return nullptr;
}

HypervisorDriver* Drivers::find_by_name(std::string_view name) const {
    const auto found =
        std::find_if(list_.begin(), list_.end(), [&](const auto* driver) { return driver->name() == name; });
    return found == list_.end() ? nullptr : *found;
}

HypervisorDriver& Drivers::get_by_type(std::string_view type) const {
    if (auto* driver = find_by_type(type)) return *driver;
    std::vector<std::string> types;
    for (const auto* driver : list_)
        for (auto& each : driver->types()) types.push_back(std::move(each));
    throw Error{Code::unsupported, fmt::format("no driver runs domains of type '{}'; the types there are: {}",
                                               printable(type), fmt::join(types, ", "))};
}

HypervisorDriver& Drivers::get_by_name(std::string_view name) const {
    if (name.empty() && !list_.empty()) return *list_.front();
    if (auto* driver = find_by_name(name)) return *driver;
    throw Error{Code::unsupported, fmt::format("there is no driver '{}'; the drivers there are: {}", printable(name),
                                               fmt::join(names(), ", "))};
}

std::vector<std::string> Drivers::names() const {
    std::vector<std::string> list;
    for (const auto* driver : list_) list.push_back(driver->name());
    return list;
}

}  // namespace virtbus
