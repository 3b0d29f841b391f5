// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/kept_text.hpp"

#include <fmt/format.h>

#include <charconv>

#include "virtbus/error.hpp"

namespace virtbus {

namespace {

/// FNV-1a: notices damage, which is all that is asked; the folder is the daemon's own.
std::uint64_t checksum(std::string_view bytes) {
    std::uint64_t hash = 14695981039346656037u;
    for (const unsigned char byte : bytes) hash = (hash ^ byte) * 1099511628211u;
    return hash;
}

[[noreturn]] void damaged(const std::string& how) {
    throw Error{Code::internal, how};
}

std::uint64_t number(std::string_view text, int base = 10) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc{} || end != text.data() + text.size()) damaged(fmt::format("'{}' is not a number", text));
    return value;
}

std::string magic(std::string_view kind) {
    return fmt::format("virtbus-{} 1 ", kind);
}

}  // namespace

void KeptWriter::add(std::string_view name, std::string_view value) {
    text_.append(name).append(1, ' ').append(std::to_string(value.size()));
    text_.append(1, '\n').append(value).append(1, '\n');
}

void KeptWriter::add(std::string_view name, std::uint64_t value) {
    add(name, fmt::to_string(value));
}

std::string KeptWriter::sealed(std::string_view kind) const {
    return fmt::format("{}{} {:016x}\n{}", magic(kind), text_.size(), checksum(text_), text_);
}

KeptReader::KeptReader(std::string_view text) {
    while (!text.empty()) {
        const auto space = text.find(' '), line = text.find('\n');
        if (line == text.npos || space > line) damaged("a value has no name and length");
        const auto length = number(text.substr(space + 1, line - space - 1));
        if (length >= text.size() - line - 1) damaged("a value is cut");
        values_.emplace(text.substr(0, space), text.substr(line + 1, length));
        text.remove_prefix(line + 1 + length + 1);
    }
}

KeptReader KeptReader::of_sealed(std::string_view kind, std::string_view content) {
    const auto start = magic(kind);
    if (!content.starts_with(start)) damaged(fmt::format("it is no {} file of version 1", kind));
    const auto line = content.find('\n');
    if (line == content.npos) damaged("it is cut in its first line");
    const auto head = content.substr(start.size(), line - start.size());
    const auto space = head.find(' ');
    if (space == head.npos) damaged("its first line has no checksum");
    const auto body = content.substr(line + 1);
    if (const auto length = number(head.substr(0, space)); length != body.size())
        damaged(fmt::format("it is {} bytes long and should be {}", body.size(), length));
    if (number(head.substr(space + 1), 16) != checksum(body)) damaged("its checksum is wrong");
    return KeptReader{body};
}

std::string_view KeptReader::text(std::string_view name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? std::string_view{} : found->second;
}

std::uint64_t KeptReader::count(std::string_view name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? 0 : number(found->second);
}

std::vector<std::string_view> KeptReader::all(std::string_view name) const {
    std::vector<std::string_view> list;
    const auto [first, last] = values_.equal_range(name);
    for (auto entry = first; entry != last; ++entry) list.push_back(entry->second);
    return list;
}

}  // namespace virtbus
