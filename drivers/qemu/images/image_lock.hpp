// SPDX-License-Identifier: LGPL-2.1-or-later
// Who has an image open: QEMU and its tools mark what they do with a file by locks on certain bytes of it.
#pragma once

#include <string>

namespace virtbus::qemu {

/// What somebody wants to do with an image, and what he lets others do meanwhile.
struct ImageUse {
    bool writes = false;
    bool shared = false;  ///< others may write it at the same time
    bool suits(const ImageUse& other) const { return (!other.writes || shared) && (!writes || other.shared); }
};

/// DeviceInUse, naming the path, when somebody writes the image. A file that cannot tell counts as unused.
void require_unused(int fd, const std::string& path);
/// The same when a QEMU that uses it so would not get its locks.
void require_free(int fd, const std::string& path, ImageUse use);

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
