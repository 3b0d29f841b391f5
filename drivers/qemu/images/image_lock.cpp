// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/images/image_lock.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <initializer_list>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

// One byte for each right that somebody has: 100 + read, write, write the same, resize.
constexpr off_t may_write = 101, may_resize = 103;

bool is_locked(int fd, off_t byte) {
    struct flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    return ::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

}  // namespace

void require_unused(int fd, const std::string& path) {
    for (const off_t byte : {may_write, may_resize})
        if (is_locked(fd, byte))
            throw Error{Code::device_in_use, fmt::format("image '{}' is in use by another process", path)};
}

}  // namespace virtbus::qemu
