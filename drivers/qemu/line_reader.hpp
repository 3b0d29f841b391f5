// SPDX-License-Identifier: LGPL-2.1-or-later
// Cuts a hostile byte stream into lines and bounds what an unfinished one may hold. What a line means is left to
// others.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace virtbus::qemu {

class LineReader {
public:
    explicit LineReader(std::size_t limit) : limit_{limit} {}

    /// Takes what arrived. LimitsExceeded when a line grows over the limit; the reader is of no use after that.
    void feed(std::string_view bytes);
    /// The next whole line without its end; valid until the next feed.
    std::optional<std::string_view> next();
    /// Bytes of a line that has not ended yet.
    std::size_t pending() const noexcept { return buffer_.size() - start_; }

private:
    std::size_t limit_;
    std::string buffer_;
    std::size_t start_ = 0;    ///< of the first line not handed out
    std::size_t scanned_ = 0;  ///< no line end before here
};

}  // namespace virtbus::qemu
