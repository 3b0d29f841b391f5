// SPDX-License-Identifier: LGPL-2.1-or-later
// The bytes of an open image: whole reads and writes at a place, and numbers as qcow2 stores them. Errors name the
// image. Everything here blocks: for workers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace virtbus::qemu {

/// Numbers of an image are big-endian.
std::uint64_t big(std::string_view bytes, std::uint64_t at, std::size_t width);
void put_big(std::string& bytes, std::uint64_t at, std::size_t width, std::uint64_t value);

class ImageBytes {
public:
    /// The descriptor stays the caller's.
    ImageBytes(int fd, std::string path) : fd_{fd}, path_{std::move(path)} {}
    ImageBytes(const ImageBytes&) = delete;
    ImageBytes& operator=(const ImageBytes&) = delete;
    virtual ~ImageBytes() = default;

    int fd() const { return fd_; }
    const std::string& path() const { return path_; }

    /// UnsupportedConfiguration when the image ends before or cannot be read.
    std::string read(std::uint64_t at, std::uint64_t count) const;
    /// NoSpace, or HypervisorFailed with the reason.
    virtual void write(std::uint64_t at, std::string_view bytes);
    /// What was written outlasts a power cut.
    virtual void sync();

private:
    int fd_;
    std::string path_;
};

}  // namespace virtbus::qemu
