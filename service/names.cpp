// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/names.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace virtbus {

namespace {

bool is_control(unsigned char byte) {
    return byte < 0x20 || byte == 0x7f;
}

}  // namespace

std::optional<std::string> normal_uuid(std::string_view text) {
    std::string digits;
    for (const char c : text) {
        if (c == '-') continue;
        const bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        if (!digit || digits.size() == 32) return std::nullopt;
        digits += c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    if (digits.size() != 32) return std::nullopt;
    for (const std::size_t dash : {8u, 13u, 18u, 23u}) digits.insert(dash, 1, '-');
    return digits;
}

std::string printable(std::string_view text) {
    std::string out{text.substr(0, 64)};
    std::replace_if(out.begin(), out.end(), [](char c) { return is_control(static_cast<unsigned char>(c)); }, '?');
    if (text.size() > 64) {
        while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xc0) == 0x80) out.pop_back();
        if (!out.empty() && static_cast<unsigned char>(out.back()) >= 0xc0) out.pop_back();
        out += "...";
    }
    return out;
}

std::string made_up_uuid(std::string_view text) {
    const auto hash = [text](std::uint64_t seed) {
        for (const unsigned char byte : text) seed = (seed ^ byte) * 1099511628211u;
        return seed;
    };
    const auto high = hash(14695981039346656037u), low = hash(0x9ae16a3b2f90404fu);
    return fmt::format("{:08x}-{:04x}-8{:03x}-{:x}{:03x}-{:012x}", high >> 32, (high >> 16) & 0xffff, high & 0xfff,
                       8 + ((low >> 60) & 3), (low >> 48) & 0xfff, low & 0xffffffffffff);
}

}  // namespace virtbus
