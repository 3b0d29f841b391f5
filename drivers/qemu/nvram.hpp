// SPDX-License-Identifier: LGPL-2.1-or-later
// The bytes of a fresh UEFI variable store, made from a template. When one is made is resources.cpp's decision.
#pragma once

#include <string>
#include <string_view>

namespace virtbus::qemu {

/// A qcow2 image with that content. `raw` is padded to whole sectors; LimitsExceeded over 64 MiB.
std::string qcow2_image(std::string_view raw);

/// The content of a qcow2 image that is complete in itself: no backing file, nothing compressed or encrypted, at most
/// 64 MiB. UnsupportedConfiguration, saying what it is, for others. The image may be anything.
std::string raw_of_qcow2(std::string_view image);

/// Writes a store at `path` from the template's content: under a temporary name, synced, renamed. 0600. Blocks.
void write_store(const std::string& path, std::string_view content);

}  // namespace virtbus::qemu
