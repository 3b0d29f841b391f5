// SPDX-License-Identifier: LGPL-2.1-or-later
// What of a device's words contradicts the machine, another device or itself, whatever the emulator can do: it is
// refused when it is defined. What only this emulator or host has not is unsupported.hpp's.
#pragma once

#include "qemu/chipset.hpp"

namespace virtbus::qemu {

/// Wants the models and targets to be filled in, and the addresses that were given.
void require_sound_devices(const DomainConfig& config, const Chipset& chipset);

}  // namespace virtbus::qemu
