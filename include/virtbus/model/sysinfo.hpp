// SPDX-License-Identifier: LGPL-2.1-or-later
// <sysinfo>: SMBIOS strings and firmware configuration blobs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "virtbus/model/basics.hpp"

namespace virtbus {

struct SysinfoEntry {
    std::string name;  ///< "" in oemStrings
    std::string file;  ///< fwcfg: contents from a file
    std::string value;
    Unknown unknown;
    bool operator==(const SysinfoEntry&) const = default;
};

/// <bios>, <system>, <baseBoard>, <chassis> or <oemStrings>.
struct SysinfoBlock {
    std::vector<SysinfoEntry> entries;
    Unknown unknown;
    bool operator==(const SysinfoBlock&) const = default;
};

struct Sysinfo {
    std::string type = "smbios";  ///< smbios, fwcfg
    std::optional<SysinfoBlock> bios, system;
    std::vector<SysinfoBlock> base_boards;
    std::optional<SysinfoBlock> chassis, oem_strings;
    std::vector<SysinfoEntry> entries;  ///< fwcfg
    Unknown unknown;
    bool operator==(const Sysinfo&) const = default;
};

}  // namespace virtbus
