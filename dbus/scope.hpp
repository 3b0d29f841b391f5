// SPDX-License-Identifier: LGPL-2.1-or-later
// The option `scope` of methods that change a definition.
#pragma once

#include <string_view>

#include "service/domain.hpp"

namespace virtbus::dbus {

/// The generator has let only these words through; no word is the default.
inline ChangeScope scope_of(std::string_view word) {
    if (word == "live") return ChangeScope::live;
    if (word == "persistent") return ChangeScope::persistent;
    if (word == "both") return ChangeScope::both;
    return ChangeScope::current;
}

}  // namespace virtbus::dbus
