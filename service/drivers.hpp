// SPDX-License-Identifier: LGPL-2.1-or-later
// The hypervisor drivers there are, found by the types they run. What they do is theirs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "virtbus/driver.hpp"

namespace virtbus {

class Drivers {
public:
    explicit Drivers(std::vector<HypervisorDriver*> list) : list_{std::move(list)} {}

    HypervisorDriver* find_by_type(std::string_view type) const;
    HypervisorDriver* find_by_name(std::string_view name) const;
    /// Unsupported, naming the types there are.
    HypervisorDriver& get_by_type(std::string_view type) const;
    /// Unsupported, naming the drivers there are; "" is the first of them.
    HypervisorDriver& get_by_name(std::string_view name) const;
    std::vector<std::string> names() const;

private:
    std::vector<HypervisorDriver*> list_;
};

}  // namespace virtbus
