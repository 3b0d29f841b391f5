// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: the Linux that guests boot.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>

namespace virtbus::tests {

/// The newest cloud kernel that is installed; "" when there is none.
inline std::string newest_kernel() {
    std::string found;
    for (const auto& entry : std::filesystem::directory_iterator{"/boot"})
        if (const auto path = entry.path().string();
            path.find("/vmlinuz-") != path.npos && path.ends_with("-cloud-amd64"))
            found = std::max(found, path);
    return found;
}

}  // namespace virtbus::tests
