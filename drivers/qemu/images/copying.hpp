// SPDX-License-Identifier: LGPL-2.1-or-later
// Copies between images of one chain by a block job of QEMU's storage daemon, which lives as long as that takes. It
// gets every level of the chain as a descriptor with its place said, and opens nothing by a name of an image's own.
#pragma once

#include <string>
#include <vector>

#include "qemu/images/image_chain.hpp"
#include "qemu/images/image_tool.hpp"
#include "virtbus/disk_work.hpp"

namespace virtbus::qemu {

struct Copying {
    enum class How { commit, stream } how;
    std::vector<OpenImage> chain;  ///< from the top to its end
    /// The level that is written to or stays below the top; as many as there are: nothing stays.
    std::size_t base;
};

/// Returns when all has reached the disk. Stopped, or when it fails, the images still hold together, and doing it again
/// goes on with it.
Task<> copy(Ports& ports, const ImagePrograms& programs, Copying copying, ProgressSink progress, std::stop_token stop);

}  // namespace virtbus::qemu
