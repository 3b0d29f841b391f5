// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as a save image: either Unsupported, or a header whose written form is read as the same. The input is tried
// as it is and with its checksums made right, so that the rules behind them are reached.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "service/save_image.hpp"
#include "virtbus/error.hpp"

namespace {

using namespace virtbus;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

std::optional<SaveImage> read(std::string_view file) {
    try {
        return decode_save_image(file, file.size(), "save image /fuzz");
    } catch (const Error& error) {
        require(error.code() == Code::unsupported, "an error of another code");
        return std::nullopt;
    }
}

void check(std::string_view file) {
    const auto image = read(file);
    if (!image) return;
    require(!image->complete || image->state_offset + image->stored_size <= file.size(), "the state is in the file");
    auto again = begin_save_image(image->header, image->compression, image->seal);
    const auto second = read(again);
    require(second.has_value(), "what was written can be read");
    require(save_image_text(second->header) == save_image_text(image->header), "and says the same");
}

std::uint64_t checksum(std::string_view bytes) {
    std::uint64_t hash = 14695981039346656037U;
    for (const unsigned char byte : bytes) hash = (hash ^ byte) * 1099511628211U;
    return hash;
}

void put(std::string& bytes, std::size_t at, std::uint64_t value) {
    for (std::size_t i = 0; i < 8; ++i) bytes[at + i] = static_cast<char>(value >> (8 * i) & 0xff);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes{reinterpret_cast<const char*>(data), size};
    check(bytes);
    // A header of these bytes, in a fixed part that fits it.
    auto made = begin_save_image({.id = "1", .uuid = "u", .name = "n", .driver = "d", .xml = std::string{bytes}},
                                 Compression::none, {});
    check(made);
    if (size < save_prelude_size) return 0;
    auto mended = std::string{bytes};
    const auto text = bytes.substr(save_prelude_size);
    put(mended, 24, text.size());
    put(mended, 32, checksum(text));
    put(mended, save_prelude_size - 8, checksum(std::string_view{mended}.substr(0, save_prelude_size - 8)));
    check(mended);
    return 0;
}
