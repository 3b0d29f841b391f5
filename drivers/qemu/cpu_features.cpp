// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/cpu_features.hpp"

#include <algorithm>
#include <array>

#include "qemu/command/writer.hpp"

namespace virtbus::qemu {

std::string feature_name(const std::string& name) {
    constexpr std::array no_switch{"cmt", "mbm_total", "mbm_local", "osxsave", "ospke", "pconfig"};
    if (std::ranges::count(no_switch, name)) return {};
    if (name == "pclmuldq") return "pclmulqdq";
    if (name == "sse4_1" || name == "sse4-1") return "sse4.1";
    if (name == "sse4_2" || name == "sse4-2") return "sse4.2";
    if (name == "ffxsr") return "fxsr-opt";
    if (name == "sse3") return "pni";
    if (name == "i64") return "lm";
    if (name == "xd") return "nx";
    std::string out = require_word(name, "CPU feature");
    std::ranges::replace(out, '_', '-');
    return out;
}

bool tells_of_host(std::string_view feature) {
    constexpr std::array left_out{"invtsc", "topoext", "intel-pt"};
    return std::ranges::count(left_out, feature) == 0;
}

}  // namespace virtbus::qemu
