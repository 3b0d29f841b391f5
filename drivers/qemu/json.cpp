// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/json.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

// A backing chain of 200 images nests about 400 deep in query-named-block-nodes.
constexpr int depth_limit = 1024;

void require_shallow(std::string_view text) {
    int depth = 0;
    bool quoted = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (quoted) {
            if (c == '\\')
                ++i;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '[' || c == '{') {
            if (++depth > depth_limit)
                throw Error{Code::invalid_args, fmt::format("JSON nested deeper than {}", depth_limit)};
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
}

}  // namespace

nlohmann::json parse_json(std::string_view text) {
    require_shallow(text);
    try {
        return nlohmann::json::parse(text);
    } catch (const nlohmann::json::exception&) {
        throw Error{Code::invalid_args, fmt::format("no JSON: \"{}\"", excerpt(text))};
    }
}

const nlohmann::json& member(const nlohmann::json& object, std::string_view name) {
    static const nlohmann::json nothing;
    if (!object.is_object()) return nothing;
    const auto found = object.find(name);
    return found == object.end() ? nothing : *found;
}

std::string text(const nlohmann::json& object, std::string_view name, std::string fallback) {
    const auto& value = member(object, name);
    return value.is_string() ? value.get<std::string>() : fallback;
}

std::uint64_t number(const nlohmann::json& object, std::string_view name, std::uint64_t fallback) {
    const auto& value = member(object, name);
    if (value.is_number_unsigned()) return value.get<std::uint64_t>();
    if (value.is_number_integer() && value.get<std::int64_t>() >= 0) return value.get<std::uint64_t>();
    return fallback;
}

bool flag(const nlohmann::json& object, std::string_view name, bool fallback) {
    const auto& value = member(object, name);
    return value.is_boolean() ? value.get<bool>() : fallback;
}

std::string excerpt(std::string_view text, std::size_t limit) {
    std::string result;
    for (const char c : text.substr(0, limit)) result += c >= ' ' && c <= '~' ? c : '?';
    if (text.size() > limit) result += "...";
    return result;
}

}  // namespace virtbus::qemu
