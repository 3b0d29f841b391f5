// SPDX-License-Identifier: LGPL-2.1-or-later
// The TPM emulator's part of a guest's record.
#pragma once

#include <cstdint>
#include <string>

namespace virtbus::qemu {

/// What a later daemon must know of it.
struct TpmRecord {
    std::string alias;  ///< of the device: "tpm0"; empty: there is none
    std::uint32_t pid = 0;
    std::uint64_t start_time = 0;
    std::string unit;
    std::string log;
    std::uint64_t log_start = 0;
};

}  // namespace virtbus::qemu
