// SPDX-License-Identifier: LGPL-2.1-or-later
// An empty qcow2 image for a disk whose changes are thrown away. It names nothing below it: the command line does.
#pragma once

#include <cstdint>
#include <string>

#include "virtbus/fd.hpp"

namespace virtbus::qemu {

/// Writes it into the empty file. `path` is for messages. Blocks.
void write_overlay(const Fd& fd, const std::string& path, std::uint64_t size);

}  // namespace virtbus::qemu
