// SPDX-License-Identifier: LGPL-2.1-or-later
// The format of a save image: a header that says what was saved and how, then the guest's state as its driver wrote it.
// Making files, moving the state and deciding what to do with a bad image are left to others.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace virtbus {

enum class Compression : std::uint32_t { none, zstd };

inline constexpr std::array compression_words{std::string_view{"none"}, std::string_view{"zstd"}};
constexpr std::string_view word(Compression kind) {
    return compression_words[static_cast<std::size_t>(kind)];
}
/// InvalidOption for another word; "" is none.
Compression compression_of(std::string_view word);

/// Tells damage, at the speed of memory; against malice it is nothing.
class StateChecksum {
public:
    void add(const char* bytes, std::size_t size);
    std::uint64_t value() const;

private:
    static constexpr std::size_t stripe = 32;
    void take(const char* bytes);
    std::array<std::uint64_t, 4> lanes_{1, 2, 3, 4};
    std::array<char, stripe> rest_{};  ///< what does not fill a stripe yet
    std::uint64_t size_ = 0;
};

/// What is known of a saved domain before its state is read.
struct SaveHeader {
    std::string id;  ///< of this image, not of the domain
    std::string uuid, name, driver;
    bool running = true;  ///< whether its CPUs go on at its restore
    std::uint64_t created = 0;
    std::string xml;  ///< the definition, with its secrets
};

struct SaveImage {
    SaveHeader header;
    Compression compression = Compression::none;
    bool complete = false;           ///< it has been finished; without that the rest has no meaning
    std::uint64_t state_offset = 0;  ///< where the state begins
    std::uint64_t stored_size = 0;   ///< bytes of it in the file
    std::uint64_t state_size = 0;    ///< bytes of it when it is unpacked
    std::uint64_t checksum = 0;      ///< of the state as it is stored
    std::string seal;                ///< over save_image_text(), by whoever wrote it
};

/// The fixed part at the beginning of the file.
inline constexpr std::size_t save_prelude_size = 256, save_seal_size = 32, save_alignment = 4096,
                             save_header_limit = (8U << 20) + (64U << 10);

/// All of an image before its state, padded to the alignment; not marked complete.
std::string begin_save_image(const SaveHeader& header, Compression compression, std::string_view seal);
/// The same file's fixed part, marked complete.
std::string finish_save_image(std::string_view begun, std::uint64_t stored_size, std::uint64_t state_size,
                              std::uint64_t checksum);
/// The header as it is written; what a seal covers.
std::string save_image_text(const SaveHeader& header);

/// How many bytes from the beginning of the file decode_save_image wants, from its first save_prelude_size bytes.
/// Unsupported, naming the file and the rule, for what is no save image of this version. `what` is "save image /a/b".
std::size_t save_image_head_size(std::string_view prelude, const std::string& what);
/// Its writing was finished. `prelude` has passed save_image_head_size.
bool is_finished_save_image(std::string_view prelude);
/// Unsupported for what breaks a rule of the format. `head` is as long as asked for, or as long as the file.
SaveImage decode_save_image(std::string_view head, std::uint64_t file_size, const std::string& what);

}  // namespace virtbus
