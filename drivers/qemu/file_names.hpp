// SPDX-License-Identifier: LGPL-2.1-or-later
// QEMU knows the guest's files by the descriptors it was given; people know them by their paths.
#pragma once

#include <exception>
#include <map>
#include <string>

namespace virtbus::qemu {

/// Paths by what QEMU calls the files: "/dev/fdset/3".
using FileNames = std::map<std::string, std::string>;

/// What QEMU said, with paths.
std::string with_paths(std::string words, const FileNames& files);

/// An Error's sentence with paths; anything else as it is.
[[noreturn]] void rethrow_with_paths(const std::exception_ptr& failure, const FileNames& files);

}  // namespace virtbus::qemu
