// SPDX-License-Identifier: LGPL-2.1-or-later
// A helper's part of a guest's record: what a later daemon must know of it.
#pragma once

#include <cstdint>
#include <string>

namespace virtbus::qemu {

struct HelperRecord {
    std::string program;  ///< "swtpm", "virtiofsd" ...
    std::string alias;    ///< of the device it serves: "tpm0"
    std::uint32_t pid = 0;
    std::uint64_t start_time = 0;
    std::string unit;
    std::string log;
    std::uint64_t log_start = 0;
};

}  // namespace virtbus::qemu
