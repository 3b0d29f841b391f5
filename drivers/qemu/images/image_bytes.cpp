// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/images/image_bytes.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

std::uint64_t big(std::string_view bytes, std::uint64_t at, std::size_t width) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < width; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    return value;
}

void put_big(std::string& bytes, std::uint64_t at, std::size_t width, std::uint64_t value) {
    for (std::size_t i = width; i-- > 0; value >>= 8) bytes[at + i] = static_cast<char>(value & 0xff);
}

namespace {

[[noreturn]] void fail_to_write(const std::string& path, int error) {
    throw Error{error == ENOSPC || error == EDQUOT ? Code::no_space : Code::hypervisor_failed,
                fmt::format("image '{}' cannot be written: {}", path, std::strerror(error))};
}

}  // namespace

std::string ImageBytes::read(std::uint64_t at, std::uint64_t count) const {
    std::string bytes(count, '\0');
    for (std::uint64_t have = 0; have < count;) {
        const ssize_t got = ::pread(fd_, bytes.data() + have, count - have, static_cast<off_t>(at + have));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            throw Error{Code::unsupported_configuration,
                        got == 0 ? fmt::format("image '{}' is cut: it points past its end", path_)
                                 : fmt::format("image '{}' cannot be read: {}", path_, std::strerror(errno))};
        have += static_cast<std::uint64_t>(got);
    }
    return bytes;
}

void ImageBytes::write(std::uint64_t at, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t put = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(at));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) fail_to_write(path_, put == 0 ? ENOSPC : errno);
        at += static_cast<std::uint64_t>(put);
        bytes.remove_prefix(static_cast<std::size_t>(put));
    }
}

void ImageBytes::sync() {
    if (::fdatasync(fd_) != 0) fail_to_write(path_, errno);
}

}  // namespace virtbus::qemu
