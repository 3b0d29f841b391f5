// SPDX-License-Identifier: LGPL-2.1-or-later
// Names of keys: Linux's (KEY_LEFTCTRL) and QEMU's own (ctrl), as QEMU wants them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace virtbus::qemu {

inline constexpr std::size_t most_keys = 16;

/// QEMU's name of the key. InvalidArgs for a name that is neither.
std::string qcode_of(std::string_view key);
/// All of them; InvalidArgs when there are none or too many.
std::vector<std::string> qcodes_of(const std::vector<std::string>& keys);

}  // namespace virtbus::qemu
