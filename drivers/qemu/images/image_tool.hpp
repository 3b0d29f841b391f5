// SPDX-License-Identifier: LGPL-2.1-or-later
// Runs qemu-img once, within limits, and turns what it says into an Error that names the image. Which words it is given
// is images.cpp's knowledge.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "virtbus/ports.hpp"

namespace virtbus::qemu {

/// The programs that work on images, and how long that may take; tests shorten it.
struct ImagePrograms {
    std::string image_tool = "/usr/bin/qemu-img";
    std::string storage_daemon = "/usr/bin/qemu-storage-daemon";
    Duration opening{30000};      ///< until an image is open and its header read
    Duration once{600000};        ///< qemu-img: tables and header of one image
    Duration answer{60000};       ///< the storage daemon's answer to anything
    Duration standstill{600000};  ///< copying that gets nowhere
    Duration pace{250};           ///< between two looks at the progress
};

/// What QEMU or one of its tools says of an image, as an Error: DeviceInUse, NoSpace, else HypervisorFailed. The names
/// that descriptors had in the tool become the image's path.
Error image_error(const std::string& doing, const std::string& path, std::string_view words);

/// One run; throws image_error when it fails. Not to be stopped once it runs: half of it would be worse than a wait.
Task<> run_image_tool(Ports& ports, const ImagePrograms& programs, std::string doing, std::string path,
                      std::vector<std::string> arguments, std::vector<std::pair<int, int>> fds);

}  // namespace virtbus::qemu
