// SPDX-License-Identifier: LGPL-2.1-or-later
// Who is connected to a socket that QEMU listens at, as the kernel tells it: QEMU itself does not say.
#pragma once

#include "virtbus/fd.hpp"

namespace virtbus::qemu {

/// Nobody new gets in. What listens at a path lets in whoever still finds that path.
void close_door(const Fd& listener);

/// Somebody has connected there and is not gone. Blocks: for workers.
bool has_clients(const Fd& listener);

}  // namespace virtbus::qemu
