// SPDX-License-Identifier: LGPL-2.1-or-later
#include "test/picture.hpp"

#include <cstdint>

namespace virtbus::test_driver {

namespace {

constexpr std::uint32_t width = 64, height = 48;

std::string big_endian(std::uint32_t value) {
    return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
            static_cast<char>(value)};
}

std::uint32_t crc32(const std::string& bytes) {
    std::uint32_t crc = ~0u;
    for (const unsigned char byte : bytes) {
        crc ^= byte;
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

std::uint32_t adler32(const std::string& bytes) {
    std::uint32_t a = 1, b = 0;
    for (const unsigned char byte : bytes) {
        a = (a + byte) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

std::string chunk(const std::string& type, const std::string& data) {
    const auto body = type + data;
    return big_endian(static_cast<std::uint32_t>(data.size())) + body + big_endian(crc32(body));
}

/// A zlib stream of one stored block: small enough that compressing is not worth a library.
std::string stored(const std::string& data) {
    const auto size = static_cast<std::uint16_t>(data.size());
    const auto rest = static_cast<std::uint16_t>(~size);
    std::string out{"\x78\x01\x01", 3};
    for (const auto value : {size, rest}) {
        out += static_cast<char>(value & 0xff);
        out += static_cast<char>(value >> 8);
    }
    return out + data + big_endian(adler32(data));
}

}  // namespace

std::string test_picture() {
    std::string rows;
    for (std::uint32_t y = 0; y < height; ++y) {
        rows += '\0';  // no filter
        for (std::uint32_t x = 0; x < width; ++x) rows += static_cast<char>((x * 4) ^ (y * 5));
    }
    const auto header = big_endian(width) + big_endian(height) + std::string{"\x08\x00\x00\x00\x00", 5};
    return std::string{"\x89PNG\r\n\x1a\n", 8} + chunk("IHDR", header) + chunk("IDAT", stored(rows)) +
           chunk("IEND", "");
}

}  // namespace virtbus::test_driver
