// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/line_reader.hpp"

#include <fmt/format.h>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

void LineReader::feed(std::string_view bytes) {
    buffer_.erase(0, start_);
    scanned_ -= start_;
    start_ = 0;
    // One large answer must not keep its memory for the rest of the guest's life.
    if (buffer_.empty() && buffer_.capacity() > (1U << 20)) std::string{}.swap(buffer_);
    if (const auto end = bytes.rfind('\n'); buffer_.size() + bytes.size() > limit_ && end == std::string_view::npos)
        throw Error{Code::limits_exceeded, fmt::format("a line of more than {} bytes", limit_)};
    buffer_.append(bytes);
}

std::optional<std::string_view> LineReader::next() {
    const auto end = buffer_.find('\n', scanned_);
    if (end == std::string::npos) {
        scanned_ = buffer_.size();
        return std::nullopt;
    }
    std::string_view line{buffer_.data() + start_, end - start_};
    start_ = scanned_ = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

}  // namespace virtbus::qemu
