// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/nvram.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::uint64_t cluster = 64 * 1024;
constexpr std::uint64_t largest = 64 << 20;

void put(std::string& image, std::uint64_t at, std::uint64_t value, int width) {
    for (int i = 0; i < width; ++i)
        image[at + static_cast<std::uint64_t>(i)] = static_cast<char>(value >> 8 * (width - 1 - i));
}

[[noreturn]] void fail(const std::string& path, const char* doing) {
    const int error = errno;
    throw Error{error == ENOSPC ? Code::no_space : Code::hypervisor_failed,
                fmt::format("variable store '{}': {}: {}", path, doing, std::strerror(error))};
}

void write_all(int fd, std::string_view content, const std::string& path) {
    while (!content.empty()) {
        const ssize_t done = ::write(fd, content.data(), content.size());
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) fail(path, "writing");
        content.remove_prefix(static_cast<std::size_t>(done));
    }
}

void sync_folder(const std::string& folder, const std::string& path) {
    const Fd fd{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!fd || ::fsync(fd.get()) != 0) fail(path, "syncing its folder");
}

}  // namespace

std::string qcow2_image(std::string_view raw) {
    if (raw.size() > largest)
        throw Error{Code::limits_exceeded,
                    fmt::format("a variable store of {} bytes is larger than 64 MiB", raw.size())};
    // Clusters: header, refcount table, refcount block, L1 table, L2 table, data.
    enum : std::uint64_t { header, refcount_table, refcount_block, l1_table, l2_table, data };
    constexpr std::uint64_t copied = std::uint64_t{1} << 63;
    const std::uint64_t size = (raw.size() + 511) / 512 * 512;
    std::string image(data * cluster, '\0');
    std::memcpy(image.data(), "QFI\xfb", 4);
    put(image, 4, 3, 4);
    put(image, 20, 16, 4);  // cluster bits
    put(image, 24, size, 8);
    put(image, 36, 1, 4);  // L1 entries
    put(image, 40, l1_table * cluster, 8);
    put(image, 48, refcount_table * cluster, 8);
    put(image, 56, 1, 4);     // clusters of the refcount table
    put(image, 96, 4, 4);     // refcounts of 16 bits
    put(image, 100, 104, 4);  // header length
    put(image, refcount_table * cluster, refcount_block * cluster, 8);
    put(image, l1_table * cluster, l2_table * cluster | copied, 8);
    for (std::uint64_t at = 0; at < raw.size(); at += cluster) {
        const auto piece = raw.substr(at, cluster);
        if (std::all_of(piece.begin(), piece.end(), [](char c) { return c == '\0'; })) continue;
        put(image, l2_table * cluster + at / cluster * 8, image.size() | copied, 8);
        image.append(piece);
        image.resize((image.size() + cluster - 1) / cluster * cluster);
    }
    for (std::uint64_t i = 0; i < image.size() / cluster; ++i) put(image, refcount_block * cluster + 2 * i, 1, 2);
    return image;
}

void write_store(const std::string& path, std::string_view content) {
    const std::string folder = std::filesystem::path{path}.parent_path().string();
    std::error_code ignored;
    std::filesystem::create_directories(folder, ignored);
    const std::string temporary = path + ".new";
    ::unlink(temporary.c_str());
    {
        const Fd fd{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
        if (!fd) fail(path, "creating");
        try {
            write_all(fd.get(), content, path);
            if (::fsync(fd.get()) != 0) fail(path, "syncing");
            if (std::rename(temporary.c_str(), path.c_str()) != 0) fail(path, "renaming");
        } catch (...) {
            ::unlink(temporary.c_str());
            throw;
        }
    }
    sync_folder(folder, path);
}

}  // namespace virtbus::qemu
