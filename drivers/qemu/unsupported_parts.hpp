// SPDX-License-Identifier: LGPL-2.1-or-later
// The families that unsupported.hpp asks, each in a file of its own.
#pragma once

#include <string>
#include <vector>

#include "qemu/capabilities.hpp"
#include "virtbus/model/domain.hpp"

namespace virtbus::qemu {

using Problems = std::vector<std::string>;

// unsupported_cpu.cpp
void check_cpu(const DomainConfig& config, const Capabilities& known, Problems& problems);
void check_hypervisor_features(const DomainConfig& config, const Capabilities& known, Problems& problems);
void check_clock(const DomainConfig& config, const Capabilities& known, Problems& problems);
// unsupported_memory.cpp
void check_memory(const DomainConfig& config, const Capabilities& known, Problems& problems);
// unsupported_devices.cpp
void check_interfaces(const DomainConfig& config, const Capabilities& known, Problems& problems);
void check_small_devices(const DomainConfig& config, const Capabilities& known, Problems& problems);

// unsupported_labels.cpp
void check_labels(const DomainConfig& config, const Capabilities& known, Problems& problems);

}  // namespace virtbus::qemu
