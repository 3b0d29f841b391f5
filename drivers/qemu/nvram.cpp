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

namespace {

class Qcow2 {
public:
    explicit Qcow2(std::string_view image) : image_{image} {
        require(image.size() >= 72 && image.starts_with("QFI\xfb"), "is no qcow2 image");
        const auto version = at(4, 4), bits = at(20, 4);
        require(version == 2 || version == 3, "is of an unknown version of qcow2");
        require(bits >= 9 && bits <= 21, "has an impossible cluster size");
        require(at(8, 8) == 0, "has a backing file");
        require(at(32, 4) == 0, "is encrypted");
        require(version == 2 || (at(72, 8) & ~std::uint64_t{1}) == 0, "has features that are not known here");
        cluster_ = std::uint64_t{1} << bits;
        size_ = at(24, 8);
        require(size_ <= largest, "is larger than 64 MiB");
        l1_entries_ = at(36, 4);
        l1_table_ = at(40, 8);
    }

    std::string content() const {
        std::string raw(size_, '\0');
        const auto per_table = cluster_ / 8;
        for (std::uint64_t offset = 0; offset < size_; offset += cluster_) {
            const auto index = offset / cluster_, table = index / per_table;
            require(table < l1_entries_, "has a table that is too short");
            const auto l2_table = at(l1_table_ + 8 * table, 8) & place;
            if (l2_table == 0) continue;
            const auto entry = at(l2_table + 8 * (index % per_table), 8);
            require((entry & compressed) == 0, "is compressed");
            const auto data = entry & place;
            if (data == 0 || (entry & 1) != 0) continue;
            const auto length = std::min(cluster_, size_ - offset);
            require(data < image_.size(), "is cut");
            // The last cluster of the file may be short; the rest of it is zero.
            image_.substr(data, length).copy(raw.data() + offset, length);
        }
        return raw;
    }

private:
    static constexpr std::uint64_t place = 0x00fffffffffffe00, compressed = std::uint64_t{1} << 62;

    static void require(bool holds, const char* what) {
        if (!holds) throw Error{Code::unsupported_configuration, what};
    }
    std::uint64_t at(std::uint64_t offset, std::uint64_t width) const {
        require(offset <= image_.size() && width <= image_.size() - offset, "is cut");
        std::uint64_t value = 0;
        for (std::uint64_t i = 0; i < width; ++i) value = value << 8 | static_cast<unsigned char>(image_[offset + i]);
        return value;
    }

    std::string_view image_;
    std::uint64_t cluster_ = 0, size_ = 0, l1_entries_ = 0, l1_table_ = 0;
};

}  // namespace

std::string raw_of_qcow2(std::string_view image) {
    return Qcow2{image}.content();
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
