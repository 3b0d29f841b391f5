// SPDX-License-Identifier: LGPL-2.1-or-later
// <smartcard>: smart card readers and what stands behind them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/chardev.hpp"

namespace virtbus {

struct Smartcard {
    std::string mode = "host";        ///< host, host-certificates, passthrough
    std::optional<ChardevType> type;  ///< passthrough
    ChardevBackend backend;
    std::vector<std::string> certificates;  ///< host-certificates: three names
    std::string database;
    DeviceInfo info;
    Unknown unknown;
    bool operator==(const Smartcard&) const = default;
};

}  // namespace virtbus
