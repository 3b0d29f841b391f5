// SPDX-License-Identifier: LGPL-2.1-or-later
// What this emulator cannot do of a complete definition, one sentence each.
#pragma once

#include <string>
#include <vector>

#include "qemu/capabilities.hpp"
#include "virtbus/model/domain.hpp"

namespace virtbus::qemu {

std::vector<std::string> unsupported(const DomainConfig& config, const Capabilities& capabilities);

/// What of it is understood and does nothing here, without harm; one sentence each.
std::vector<std::string> without_effect(const DomainConfig& config);

}  // namespace virtbus::qemu
