// SPDX-License-Identifier: LGPL-2.1-or-later
// What of the host's devices in a definition contradicts the machine or another of them: refused when it is defined.
// Whether the host has them is for the start to see.
#pragma once

#include "qemu/chipset.hpp"

namespace virtbus::qemu {

/// Wants the addresses as they were given.
void require_sound_hostdevs(const DomainConfig& config, const Chipset& chipset);

}  // namespace virtbus::qemu
