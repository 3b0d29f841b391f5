// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/overlay.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

constexpr std::uint64_t cluster = 64 * 1024;
constexpr std::uint64_t per_l1_entry = cluster / 8 * cluster;
constexpr std::uint64_t largest = std::uint64_t{1} << 46;  // 64 TiB: the refcounts of its tables fit one block

void put(std::string& image, std::uint64_t at, std::uint64_t value, int width) {
    for (int i = 0; i < width; ++i)
        image[at + static_cast<std::uint64_t>(i)] = static_cast<char>(value >> 8 * (width - 1 - i));
}

/// Clusters: header, refcount table, refcount block, L1 table (empty: nothing is allocated).
std::string empty_image(std::uint64_t size) {
    const std::uint64_t entries = (size + per_l1_entry - 1) / per_l1_entry;
    const std::uint64_t l1_clusters = (entries * 8 + cluster - 1) / cluster;
    const std::uint64_t clusters = 3 + l1_clusters;
    std::string image(clusters * cluster, '\0');
    std::memcpy(image.data(), "QFI\xfb", 4);
    put(image, 4, 3, 4);
    put(image, 20, 16, 4);  // cluster bits
    put(image, 24, size, 8);
    put(image, 36, entries, 4);
    put(image, 40, 3 * cluster, 8);
    put(image, 48, cluster, 8);
    put(image, 56, 1, 4);     // clusters of the refcount table
    put(image, 96, 4, 4);     // refcounts of 16 bits
    put(image, 100, 104, 4);  // header length
    put(image, cluster, 2 * cluster, 8);
    for (std::uint64_t i = 0; i < clusters; ++i) put(image, 2 * cluster + 2 * i, 1, 2);
    return image;
}

}  // namespace

void write_overlay(const Fd& fd, const std::string& path, std::uint64_t size) {
    const std::uint64_t whole = (size + 511) / 512 * 512;
    if (whole > largest)
        throw Error{Code::limits_exceeded, fmt::format("no overlay '{}' for a disk of more than 64 TiB", path)};
    const std::string image = empty_image(whole);
    std::size_t done = 0;
    while (done < image.size()) {
        const ssize_t put = ::pwrite(fd.get(), image.data() + done, image.size() - done, static_cast<off_t>(done));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0)
            throw Error{errno == ENOSPC ? Code::no_space : Code::hypervisor_failed,
                        fmt::format("writing the overlay '{}': {}", path, std::strerror(errno))};
        done += static_cast<std::size_t>(put);
    }
}

}  // namespace virtbus::qemu
