// SPDX-License-Identifier: LGPL-2.1-or-later
// What the lamps of the engine's tests show.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace virtbus::dbus {

struct LampView {
    std::string name;
    bool lit = false;
    std::uint32_t level = 0;
    std::vector<std::string> history;
    std::string neighbour;
};

}  // namespace virtbus::dbus
