// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/command/writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

std::string json_string(std::string_view text) {
    std::string out{'"'};
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
            out += c;
        }
    }
    return out + '"';
}

std::string doubled_commas(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == ',') out += ',';
        out += c;
    }
    return out;
}

const std::string& require_word(const std::string& name, const char* what) {
    const auto allowed = [](unsigned char c) {
        return std::isalnum(c) || c == '.' || c == '-' || c == '_' || c == '+';
    };
    if (name.empty() || !std::all_of(name.begin(), name.end(), allowed))
        throw Error{Code::invalid_xml,
                    fmt::format("'{}' is no {}; letters, digits and . - _ + are allowed", name, what)};
    return name;
}

Json& Json::put(std::string_view name, std::string value) {
    const auto there =
        std::find_if(members_.begin(), members_.end(), [&](auto& member) { return member.first == name; });
    if (there != members_.end())
        there->second = std::move(value);
    else
        members_.emplace_back(name, std::move(value));
    return *this;
}

Json& Json::set(std::string_view name, const std::vector<Json>& values) {
    std::string list;
    for (const auto& value : values) list += (list.empty() ? "" : ",") + value.text();
    return put(name, "[" + list + "]");
}

Json& Json::set(std::string_view name, const std::vector<unsigned>& values) {
    return put(name, fmt::format("[{}]", fmt::join(values, ",")));
}

Json& Json::set_array(std::string_view name, const std::vector<std::string>& values) {
    std::vector<std::string> words;
    for (const auto& value : values) words.push_back(json_string(value));
    return put(name, fmt::format("[{}]", fmt::join(words, ",")));
}

Json& Json::remove(std::string_view name) {
    std::erase_if(members_, [&](auto& member) { return member.first == name; });
    return *this;
}

std::string Json::text() const {
    std::string out{"{"};
    for (const auto& [name, value] : members_) {
        if (out.size() > 1) out += ',';
        out += json_string(name) + ':' + value;
    }
    return out + '}';
}

KeyValues& KeyValues::add(std::string_view key, std::string_view value) {
    if (!text_.empty()) text_ += ',';
    text_ += key;
    text_ += '=';
    text_ += doubled_commas(value);
    return *this;
}

}  // namespace virtbus::qemu
