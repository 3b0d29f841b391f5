// SPDX-License-Identifier: LGPL-2.1-or-later
// Elements of QEMU's own XML namespace, as plain lists for the driver that understands them.
#pragma once

#include <string>
#include <vector>

#include "virtbus/model/basics.hpp"

namespace virtbus {

struct QemuEnv {
    std::string name, value;
    Unknown unknown;
    bool operator==(const QemuEnv&) const = default;
};

struct QemuCommandline {
    std::vector<std::string> args;
    std::vector<QemuEnv> envs;
    Unknown unknown;
    bool operator==(const QemuCommandline&) const = default;
};

struct QemuCapabilities {
    std::vector<std::string> add, del;
    Unknown unknown;
    bool operator==(const QemuCapabilities&) const = default;
};

struct QemuProperty {
    std::string name;
    std::string type;  ///< string, signed, unsigned, bool, remove
    std::string value;
    Unknown unknown;
    bool operator==(const QemuProperty&) const = default;
};

struct QemuDeviceOverride {
    std::string alias;
    std::vector<QemuProperty> frontend;
    Unknown unknown;
    bool operator==(const QemuDeviceOverride&) const = default;
};

struct QemuOverride {
    std::vector<QemuDeviceOverride> devices;
    Unknown unknown;
    bool operator==(const QemuOverride&) const = default;
};

}  // namespace virtbus
