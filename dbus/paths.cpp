// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/paths.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace virtbus::dbus {

namespace {

bool is_plain(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

}  // namespace

std::string uuid_to_element(std::string_view uuid) {
    std::string element{uuid};
    std::replace(element.begin(), element.end(), '-', '_');
    return element;
}

std::optional<std::string> element_to_uuid(std::string_view element) {
    if (element.size() != 36) return std::nullopt;
    std::string uuid{element};
    for (std::size_t i = 0; i < uuid.size(); i++) {
        const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? uuid[i] != '_' : hex_value(uuid[i]) < 0) return std::nullopt;
        if (dash) uuid[i] = '-';
    }
    return uuid;
}

std::string name_to_element(std::string_view name) {
    std::string element;
    for (const char c : name)
        if (is_plain(c))
            element += c;
        else
            element += fmt::format("_{:02x}", static_cast<unsigned char>(c));
    return element;
}

std::optional<std::string> element_to_name(std::string_view element) {
    std::string name;
    for (std::size_t i = 0; i < element.size(); i++) {
        if (is_plain(element[i])) {
            name += element[i];
            continue;
        }
        if (element[i] != '_' || i + 2 >= element.size()) return std::nullopt;
        const int high = hex_value(element[i + 1]), low = hex_value(element[i + 2]);
        if (high < 0 || low < 0 || is_plain(static_cast<char>(high * 16 + low))) return std::nullopt;
        name += static_cast<char>(high * 16 + low);
        i += 2;
    }
    return name;
}

std::optional<std::uint64_t> element_to_number(std::string_view element) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(element.data(), element.data() + element.size(), number);
    if (error != std::errc{} || end != element.data() + element.size() || element.starts_with('0')) return std::nullopt;
    return number;
}

std::string domain_path(std::string_view uuid) {
    return fmt::format("{}/domain/{}", root_path, uuid_to_element(uuid));
}
std::string network_path(std::string_view uuid) {
    return fmt::format("{}/network/{}", root_path, uuid_to_element(uuid));
}
std::string job_path(std::uint64_t id) {
    return fmt::format("{}/job/{}", root_path, id);
}
std::string snapshot_path(std::string_view domain_uuid, std::string_view name) {
    return fmt::format("{}/snapshot/{}", domain_path(domain_uuid), name_to_element(name));
}
std::string checkpoint_path(std::string_view domain_uuid, std::string_view name) {
    return fmt::format("{}/checkpoint/{}", domain_path(domain_uuid), name_to_element(name));
}

}  // namespace virtbus::dbus
