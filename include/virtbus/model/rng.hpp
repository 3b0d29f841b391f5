// SPDX-License-Identifier: LGPL-2.1-or-later
// <rng>: sources of randomness.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "virtbus/model/chardev.hpp"

namespace virtbus {

struct RngRate {
    std::uint32_t bytes = 0;
    std::optional<std::uint32_t> period;  ///< milliseconds
    Unknown unknown;
    bool operator==(const RngRate&) const = default;
};

struct RngBackend {
    std::string model = "random";     ///< random, egd, builtin
    std::string path;                 ///< random: the host's device; "" = /dev/urandom
    std::optional<ChardevType> type;  ///< egd
    ChardevBackend chardev;           ///< egd
    Unknown unknown;
    bool operator==(const RngBackend&) const = default;
};

struct Rng {
    std::string model = "virtio";
    std::optional<VirtioDriver> driver;
    std::optional<RngRate> rate;
    RngBackend backend;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Rng&) const = default;
};

}  // namespace virtbus
