// SPDX-License-Identifier: LGPL-2.1-or-later
// Makes a definition whole as libvirt would: machine alias, default devices and controllers, models, addresses.
#pragma once

#include <string>
#include <vector>

#include "qemu/capabilities.hpp"
#include "qemu/firmware.hpp"
#include "virtbus/model/domain.hpp"

namespace virtbus::qemu {

/// What of the host counts beside the emulator.
struct Surroundings {
    std::vector<Firmware> firmwares;  ///< see load_firmwares
    std::string nvram_folder;         ///< where variable stores are made that the definition does not name
};

/// What `config` already says stays; where it is silent about an address, `previous` (may be null) is followed.
/// UnsupportedConfiguration for what contradicts itself. Call again after the config's UUID was made: a variable
/// store is named by it.
void complete(DomainConfig& config, const DomainConfig* previous, const Capabilities& capabilities,
              const Surroundings& surroundings = {});

}  // namespace virtbus::qemu
