// SPDX-License-Identifier: LGPL-2.1-or-later
// Who has an image open: QEMU and its tools mark what they do with a file by locks on certain bytes of it.
#pragma once

#include <string>

namespace virtbus::qemu {

/// DeviceInUse, naming the path, when somebody writes the image. A file that cannot tell counts as unused.
void require_unused(int fd, const std::string& path);

/// Has the image as a QEMU has it that writes it and lets nobody else write. The descriptor stays the caller's.
class ImageHold {
public:
    /// DeviceInUse, naming the path, when somebody writes it or wants that nobody does.
    ImageHold(int fd, const std::string& path);
    ImageHold(const ImageHold&) = delete;
    ImageHold& operator=(const ImageHold&) = delete;
    ~ImageHold();

private:
    int fd_;
};

}  // namespace virtbus::qemu
