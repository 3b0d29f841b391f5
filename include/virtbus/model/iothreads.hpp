// SPDX-License-Identifier: LGPL-2.1-or-later
// Which I/O threads a machine has.
#pragma once

#include <cstdint>

namespace virtbus {

struct DomainConfig;

/// Listed in <iothreadids>, or one of those that <iothreads> adds; these take the free numbers from 1 up.
bool has_iothread(const DomainConfig& config, std::uint32_t id);

}  // namespace virtbus
