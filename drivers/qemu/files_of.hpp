// SPDX-License-Identifier: LGPL-2.1-or-later
// Which files a definition names beside its disks, and how the guest uses each. Opening them is resources.cpp's work.
#pragma once

#include <string>
#include <vector>

#include "virtbus/driver.hpp"

namespace virtbus::qemu {

struct NamedFile {
    enum class Use {
        copy,    ///< QEMU opens it by itself: a sealed copy in memory stands in
        plain,   ///< a device node, firmware
        store,   ///< the variable store: made from its template when missing
        output,  ///< written by a character device
        log,
        listener  ///< a socket that the guest's process listens on
    };
    std::string key;  ///< of OpenedResources::files
    std::string path;
    Use use = Use::plain;
    Access access = Access::read;
    std::string format;
    bool optional = false;  ///< may be missing
    bool append = false;
};

/// In a fixed order. Sockets without a path are put into `runtime_folder`.
std::vector<NamedFile> files_of(const DomainConfig& config, const std::string& runtime_folder);

}  // namespace virtbus::qemu
