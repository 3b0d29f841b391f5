// SPDX-License-Identifier: LGPL-2.1-or-later
// <cputune>, <memtune>, <blkiotune> and the firm modes of <numatune> as limits of the guest's unit, which holds all its
// threads: what the definition gives each vCPU and the emulator is added up. Pins of single threads are pins.hpp's
// work.
#pragma once

#include "virtbus/model/domain.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::qemu {

UnitLimits unit_limits(const DomainConfig& config);

}  // namespace virtbus::qemu
