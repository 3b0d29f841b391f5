// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/images/qcow2_tables.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string_view>

#include "qemu/images/image_bytes.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

// QEMU's own limits.
constexpr std::uint64_t most_snapshots = 65536, most_bitmaps = 65535;
constexpr std::uint64_t longest_snapshots = 64U << 20, longest_directory = 64U << 20;
constexpr std::uint64_t longest_extra = 1024;

/// Reads forward through one stretch of the file, block by block.
class Stretch {
public:
    Stretch(int fd, const std::string& path, std::uint64_t start, std::uint64_t length)
        : fd_{fd}, path_{path}, at_{start}, left_{length} {
        if (start > std::numeric_limits<std::int64_t>::max() - length) fail("lists something outside of itself");
    }

    [[noreturn]] void fail(const char* what) const {
        throw Error{Code::unsupported_configuration, fmt::format("image '{}' {}", path_, what)};
    }
    std::uint64_t left() const { return left_; }
    std::string take(std::uint64_t count) {
        if (count > left_) fail("has a list that is longer than allowed");
        left_ -= count;
        while (block_.size() - used_ < count) fill(count);
        std::string out = block_.substr(used_, count);
        used_ += count;
        return out;
    }

private:
    void fill(std::uint64_t wanted) {
        block_.erase(0, used_);
        used_ = 0;
        const std::size_t have = block_.size();
        block_.resize(have + std::max<std::uint64_t>(wanted, 64U << 10));
        ssize_t got = -1;
        do got = ::pread(fd_, block_.data() + have, block_.size() - have, static_cast<off_t>(at_));
        while (got < 0 && errno == EINTR);
        if (got < 0) fail(fmt::format("cannot be read: {}", std::strerror(errno)).c_str());
        if (got == 0) fail("is cut: its header points past its end");
        block_.resize(have + static_cast<std::size_t>(got));
        at_ += static_cast<std::uint64_t>(got);
    }

    int fd_;
    const std::string& path_;
    std::uint64_t at_, left_;
    std::string block_;
    std::size_t used_ = 0;
};

std::uint64_t padding(std::uint64_t length) {
    return (8 - length % 8) % 8;
}

void read_snapshots(Qcow2Tables& out, int fd, const std::string& path, std::uint64_t count, std::uint64_t offset) {
    if (count == 0) return;
    Stretch list{fd, path, offset, longest_snapshots};
    if (count > most_snapshots) list.fail("claims more than 65536 snapshots");
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::string head = list.take(40);
        const auto id = big(head, 12, 2), tag = big(head, 14, 2), extra = big(head, 36, 4);
        if (extra > longest_extra) list.fail("has a snapshot with more than 1024 bytes of extra data");
        list.take(extra);
        auto& snapshot = out.snapshots.emplace_back();
        snapshot.l1_at = big(head, 0, 8);
        snapshot.l1_length = big(head, 8, 4) * 8;
        snapshot.id = list.take(id);
        snapshot.tag = list.take(tag);
        // The last one may end with the file.
        if (i + 1 < count) list.take(padding(40 + extra + id + tag));
    }
    out.snapshots_length = longest_snapshots - list.left();
}

std::vector<Qcow2Bitmap> read_bitmaps(int fd, const std::string& path, const std::string& extension) {
    std::vector<Qcow2Bitmap> out;
    const auto count = big(extension, 0, 4), size = big(extension, 8, 8), offset = big(extension, 16, 8);
    Stretch list{fd, path, offset, std::min(size, longest_directory)};
    if (count > most_bitmaps) list.fail("claims more than 65535 bitmaps");
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::string head = list.take(24);
        const auto flags = big(head, 12, 4), bits = big(head, 17, 1), name = big(head, 18, 2), extra = big(head, 20, 4);
        if (bits < 9 || bits > 31) list.fail("has a bitmap of an impossible granularity");
        if (extra > longest_extra) list.fail("has a bitmap with more than 1024 bytes of extra data");
        list.take(extra);
        auto& bitmap = out.emplace_back();
        bitmap.name = list.take(name);
        bitmap.inconsistent = flags & 1;
        bitmap.recording = flags & 2;
        bitmap.granularity = std::uint32_t{1} << bits;
        if (i + 1 < count) list.take(padding(24 + extra + name));
    }
    return out;
}

/// The header's note of its bitmaps; empty when it has none, or when it was written by somebody who knows of none.
std::string bitmap_extension(int fd, const std::string& path, const std::string& head) {
    constexpr std::uint64_t bitmaps = 0x23852875, all_known = 1;
    if (big(head, 4, 4) < 3 || !(big(head, 88, 8) & all_known)) return {};
    const std::uint64_t cluster = std::uint64_t{1} << std::min<std::uint64_t>(big(head, 20, 4), 21);
    const std::uint64_t start = std::min(big(head, 100, 4), cluster), backing = big(head, 8, 8);
    const std::uint64_t end = backing ? std::min(backing, cluster) : cluster;
    Stretch list{fd, path, start, end > start ? end - start : 0};
    while (list.left() >= 8) {
        const std::string entry = list.take(8);
        const auto kind = big(entry, 0, 4), length = big(entry, 4, 4);
        if (kind == 0) return {};
        const std::string content = list.take(length);
        if (kind == bitmaps && length < 24) list.fail("has a note of its bitmaps that is cut");
        if (kind == bitmaps) return content;
        list.take(padding(length));
    }
    return {};
}

}  // namespace

Qcow2Tables read_qcow2_tables(int fd, const std::string& path) {
    Stretch start{fd, path, 0, 104};
    std::string head = start.take(72);
    if (big(head, 4, 4) >= 3) head += start.take(32);
    Qcow2Tables out;
    read_snapshots(out, fd, path, big(head, 60, 4), big(head, 64, 8));
    if (const auto extension = bitmap_extension(fd, path, head); !extension.empty())
        out.bitmaps = read_bitmaps(fd, path, extension);
    return out;
}

}  // namespace virtbus::qemu
