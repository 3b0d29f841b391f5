// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/save_image.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "virtbus/error.hpp"

namespace virtbus {

namespace {

/// With bytes that a transfer as text would change.
constexpr std::string_view magic{"virtbus-save\x1a\r\n\x00", 16};
constexpr std::uint32_t version = 2;
constexpr std::uint64_t complete_mark = 0x6574656c706d6f63;  // "complete"
constexpr std::uint64_t biggest = std::uint64_t{1} << 56;

/// Where the numbers stand in the fixed part, all little-endian.
enum Place : std::size_t {
    at_version = 16,
    at_compression = 20,
    at_text_size = 24,
    at_text_checksum = 32,
    at_state_offset = 40,
    at_complete = 48,
    at_stored_size = 56,
    at_state_size = 64,
    at_seal = 72,
    at_state_checksum = at_seal + save_seal_size,
    at_checksum = save_prelude_size - 8,
};

/// FNV-1a notices damage. Who wrote an image is what the seal tells.
std::uint64_t checksum(std::string_view bytes) {
    std::uint64_t hash = 14695981039346656037U;
    for (const unsigned char byte : bytes) hash = (hash ^ byte) * 1099511628211U;
    return hash;
}

template <class T>
void put(std::string& bytes, std::size_t at, T value) {
    for (std::size_t i = 0; i < sizeof value; ++i) bytes[at + i] = static_cast<char>(value >> (8 * i) & 0xff);
}
template <class T>
T get(std::string_view bytes, std::size_t at) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof value; ++i)
        value |= static_cast<T>(static_cast<T>(static_cast<unsigned char>(bytes[at + i])) << (8 * i));
    return value;
}

void sign(std::string& prelude) {
    put<std::uint64_t>(prelude, at_checksum, checksum(std::string_view{prelude}.substr(0, at_checksum)));
}

[[noreturn]] void refuse(const std::string& what, const std::string& rule) {
    throw Error{Code::unsupported, fmt::format("{} cannot be used: {}", what, rule)};
}

void require_prelude(std::string_view head, const std::string& what) {
    if (head.size() < magic.size() || head.substr(0, magic.size()) != magic)
        refuse(what, "it does not begin as a save image of virtbus does; it was written by something else");
    if (head.size() < save_prelude_size)
        refuse(what, fmt::format("it is cut: {} bytes are there, its fixed part has {}", head.size(),
                                 static_cast<std::size_t>(save_prelude_size)));
    if (const auto found = get<std::uint32_t>(head, at_version); found != version)
        refuse(what, fmt::format("it has format version {}; this virtbus reads version {}", found, version));
    if (get<std::uint64_t>(head, at_checksum) != checksum(head.substr(0, at_checksum)))
        refuse(what, "the checksum of its fixed part is wrong; it was altered or damaged");
}

std::uint64_t number(std::string_view text, const std::string& what, std::string_view key) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
        refuse(what, fmt::format("'{}' in its header is not a number", key));
    return value;
}

/// "key value" lines, an empty one, the definition.
SaveHeader read_text(std::string_view text, const std::string& what) {
    SaveHeader header;
    bool state_said = false;
    for (;;) {
        const auto end = text.find('\n');
        if (end == text.npos) refuse(what, "its header ends in the middle of a line");
        const auto line = text.substr(0, end);
        text.remove_prefix(end + 1);
        if (line.empty()) break;
        const auto key = line.substr(0, line.find(' '));
        const auto value = line.substr(std::min(key.size() + 1, line.size()));
        if (key == "id") header.id = value;
        if (key == "uuid") header.uuid = value;
        if (key == "name") header.name = value;
        if (key == "driver") header.driver = value;
        if (key == "created") header.created = number(value, what, key);
        if (key != "state") continue;
        if (value != "running" && value != "paused")
            refuse(what, "the state in its header is neither 'running' nor 'paused'");
        state_said = true;
        header.running = value == "running";
    }
    if (header.id.empty() || header.uuid.empty() || header.name.empty() || header.driver.empty() || !state_said)
        refuse(what, "its header lacks one of id, uuid, name, driver and state");
    header.xml = text;
    return header;
}

}  // namespace

void StateChecksum::take(const char* bytes) {
    for (auto& lane : lanes_) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes, sizeof word);
        bytes += sizeof word;
        if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
        // Each step can be turned back, so one altered word always shows.
        lane = std::rotl((lane ^ word) * 0xd6e8feb86659fd93U, 29);
    }
}

void StateChecksum::add(const char* bytes, std::size_t size) {
    const auto held = static_cast<std::size_t>(size_ % stripe);
    size_ += size;
    if (held > 0) {
        const auto part = std::min(size, stripe - held);
        std::memcpy(rest_.data() + held, bytes, part);
        if (held + part < stripe) return;
        take(rest_.data());
        bytes += part;
        size -= part;
    }
    for (; size >= stripe; bytes += stripe, size -= stripe) take(bytes);
    std::memcpy(rest_.data(), bytes, size);
}

std::uint64_t StateChecksum::value() const {
    auto last = *this;
    const auto held = static_cast<std::size_t>(size_ % stripe);
    std::memset(last.rest_.data() + held, 0, stripe - held);
    last.take(last.rest_.data());
    auto sum = size_;
    for (const auto lane : last.lanes_) sum = std::rotl((sum ^ lane) * 0x9e3779b97f4a7c15U, 31);
    return sum ^ sum >> 32;
}

Compression compression_of(std::string_view text) {
    const auto found = std::find(compression_words.begin(), compression_words.end(), text);
    if (text.empty()) return Compression::none;
    if (found == compression_words.end())
        throw Error{Code::invalid_option, fmt::format("option 'compression' is '{}'; it can be none or zstd", text)};
    return static_cast<Compression>(found - compression_words.begin());
}

std::string save_image_text(const SaveHeader& header) {
    return fmt::format("id {}\nuuid {}\nname {}\ndriver {}\nstate {}\ncreated {}\n\n{}", header.id, header.uuid,
                       header.name, header.driver, header.running ? "running" : "paused", header.created, header.xml);
}

std::string begin_save_image(const SaveHeader& header, Compression compression, std::string_view seal) {
    const auto text = save_image_text(header);
    if (text.size() > save_header_limit)
        throw Error{Code::limits_exceeded,
                    fmt::format("the definition of domain '{}' is too long for a save image: {} bytes, at most {}",
                                header.name, text.size(), static_cast<std::size_t>(save_header_limit))};
    const auto end = save_prelude_size + text.size();
    std::string head(save_prelude_size, '\0');
    head.replace(0, magic.size(), magic);
    put<std::uint32_t>(head, at_version, version);
    put<std::uint32_t>(head, at_compression, static_cast<std::uint32_t>(compression));
    put<std::uint64_t>(head, at_text_size, text.size());
    put<std::uint64_t>(head, at_text_checksum, checksum(text));
    put<std::uint64_t>(head, at_state_offset, (end + save_alignment - 1) / save_alignment * save_alignment);
    head.replace(at_seal, std::min(seal.size(), save_seal_size), seal.substr(0, save_seal_size));
    sign(head);
    head += text;
    head.resize((end + save_alignment - 1) / save_alignment * save_alignment);
    return head;
}

std::string finish_save_image(std::string_view begun, std::uint64_t stored_size, std::uint64_t state_size,
                              std::uint64_t checksum) {
    std::string prelude{begun.substr(0, save_prelude_size)};
    put<std::uint64_t>(prelude, at_complete, complete_mark);
    put<std::uint64_t>(prelude, at_stored_size, stored_size);
    put<std::uint64_t>(prelude, at_state_size, state_size);
    put<std::uint64_t>(prelude, at_state_checksum, checksum);
    sign(prelude);
    return prelude;
}

std::size_t save_image_head_size(std::string_view prelude, const std::string& what) {
    require_prelude(prelude, what);
    const auto text_size = get<std::uint64_t>(prelude, at_text_size);
    if (text_size > save_header_limit)
        refuse(what, fmt::format("its header is said to have {} bytes; at most {} are allowed", text_size,
                                 static_cast<std::size_t>(save_header_limit)));
    return save_prelude_size + text_size;
}

bool is_finished_save_image(std::string_view prelude) {
    return get<std::uint64_t>(prelude, at_complete) == complete_mark;
}

SaveImage decode_save_image(std::string_view head, std::uint64_t file_size, const std::string& what) {
    const auto wanted = save_image_head_size(head.substr(0, save_prelude_size), what);
    if (head.size() < wanted)
        refuse(what, fmt::format("it is cut: its header has {} bytes, {} are there", wanted, head.size()));
    const auto text = head.substr(save_prelude_size, wanted - save_prelude_size);
    if (get<std::uint64_t>(head, at_text_checksum) != checksum(text))
        refuse(what, "the checksum of its header is wrong; it was altered or damaged");
    SaveImage image;
    const auto compression = get<std::uint32_t>(head, at_compression);
    if (compression >= compression_words.size())
        refuse(what,
               fmt::format("its state is compressed in a way this virtbus does not know (number {})", compression));
    image.compression = static_cast<Compression>(compression);
    image.header = read_text(text, what);
    image.state_offset = get<std::uint64_t>(head, at_state_offset);
    image.seal = head.substr(at_seal, save_seal_size);
    if (image.state_offset < wanted || image.state_offset > save_prelude_size + save_header_limit + save_alignment ||
        image.state_offset % save_alignment != 0)
        refuse(what, fmt::format("its state is said to begin at byte {}, which cannot be", image.state_offset));
    image.complete = is_finished_save_image(head);
    if (!image.complete) return image;
    image.stored_size = get<std::uint64_t>(head, at_stored_size);
    image.state_size = get<std::uint64_t>(head, at_state_size);
    image.checksum = get<std::uint64_t>(head, at_state_checksum);
    if (image.stored_size > biggest || image.state_size > biggest)
        refuse(what, fmt::format("its state is said to have {} bytes, which cannot be",
                                 std::max(image.stored_size, image.state_size)));
    if (image.compression == Compression::none && image.state_size != image.stored_size)
        refuse(what, "its state is not compressed and yet said to have two sizes");
    if (file_size < image.state_offset + image.stored_size)
        refuse(what, fmt::format("it is cut: {} bytes are there, it was written with {}", file_size,
                                 image.state_offset + image.stored_size));
    return image;
}

}  // namespace virtbus
