// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/images/image_lock.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <initializer_list>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

// One byte for each right that somebody has: 100 + read, write, write the same, resize; and 200 + each that somebody
// does not want others to have.
constexpr off_t may_read = 100, may_write = 101, may_resize = 103;
constexpr off_t no_reader = 200, no_writer = 201, no_resizer = 203;

bool lock(int fd, int command, short type, off_t byte, off_t count, short& found) {
    struct flock lock{};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = count;
    const bool done = ::fcntl(fd, command, &lock) == 0;
    found = lock.l_type;
    return done;
}

void require_unlocked(int fd, const std::string& path, std::initializer_list<off_t> bytes) {
    short found = F_UNLCK;
    for (const off_t byte : bytes)
        if (lock(fd, F_OFD_GETLK, F_WRLCK, byte, 1, found) && found != F_UNLCK)
            throw Error{Code::device_in_use, fmt::format("image '{}' is in use by another process", path)};
}

void release(int fd) {
    short ignored = F_UNLCK;
    lock(fd, F_OFD_SETLK, F_UNLCK, may_read, no_resizer - may_read + 1, ignored);
}

}  // namespace

void require_unused(int fd, const std::string& path) {
    require_unlocked(fd, path, {may_write, may_resize});
}

void require_free(int fd, const std::string& path, ImageUse use) {
    if (!use.shared) require_unlocked(fd, path, {may_write});
    if (use.writes) require_unlocked(fd, path, {no_writer});
}

ImageHold::ImageHold(int fd, const std::string& path) : fd_{fd} {
    short ignored = F_UNLCK;
    for (const off_t byte : {may_read, may_write, may_resize, no_writer, no_resizer})
        lock(fd, F_OFD_SETLK, F_RDLCK, byte, 1, ignored);
    try {
        require_unlocked(fd, path, {no_reader, no_writer, no_resizer, may_write, may_resize});
    } catch (...) {
        release(fd_);
        throw;
    }
}

ImageHold::~ImageHold() {
    release(fd_);
}

}  // namespace virtbus::qemu
