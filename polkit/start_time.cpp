// SPDX-License-Identifier: LGPL-2.1-or-later
#include "polkit/start_time.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <string_view>

#include "virtbus/fd.hpp"

namespace virtbus::polkit {

std::uint64_t start_time_of(std::uint32_t pid) {
    const Fd file{::open(fmt::format("/proc/{}/stat", pid).c_str(), O_RDONLY | O_CLOEXEC)};
    std::array<char, 4096> buffer{};
    const auto size = file ? ::read(file.get(), buffer.data(), buffer.size()) : -1;
    if (size <= 0) return 0;
    std::string_view text{buffer.data(), static_cast<std::size_t>(size)};
    // The second field is the program's name in brackets and may hold anything, so counting starts behind it.
    const auto name_end = text.rfind(')');
    if (name_end == std::string_view::npos) return 0;
    text.remove_prefix(name_end);
    for (int field = 2; field < 22; ++field) {
        const auto space = text.find(' ');
        if (space == std::string_view::npos) return 0;
        text.remove_prefix(space + 1);
    }
    std::uint64_t time = 0;
    std::from_chars(text.data(), text.data() + text.size(), time);
    return time;
}

}  // namespace virtbus::polkit
