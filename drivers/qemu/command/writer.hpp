// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes values for QEMU's command line so that no string of a definition can become an option of its own: JSON where
// QEMU takes it, key=value lists with doubled commas elsewhere.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace virtbus::qemu {

std::string json_string(std::string_view text);
std::string doubled_commas(std::string_view text);
/// For names that become keys or QEMU's own words: letters, digits and ".-_+" only. InvalidXML, telling what it is.
const std::string& require_word(const std::string& name, const char* what);

/// A JSON object that keeps the order in which members were set.
class Json {
public:
    template <class Text>
        requires std::is_convertible_v<Text, std::string_view>
    Json& set(std::string_view name, const Text& value) {
        return put(name, json_string(std::string_view{value}));
    }
    template <std::same_as<bool> Bool>
    Json& set(std::string_view name, Bool value) {
        return put(name, value ? "true" : "false");
    }
    template <std::integral Number>
        requires(!std::same_as<Number, bool>)
    Json& set(std::string_view name, Number value) {
        return put(name, std::to_string(value));
    }
    Json& set(std::string_view name, const Json& value) { return put(name, value.text()); }
    Json& set(std::string_view name, const std::vector<Json>& values);
    Json& set(std::string_view name, const std::vector<unsigned>& values);
    Json& set_array(std::string_view name, const std::vector<std::string>& values);
    /// Nothing is written for what is not there.
    template <class T>
    Json& set(std::string_view name, const std::optional<T>& value) {
        return value ? set(name, *value) : *this;
    }
    /// Nothing is written for "".
    Json& set_text(std::string_view name, std::string_view value) { return value.empty() ? *this : set(name, value); }
    /// "on" or "off", for properties that also know "auto".
    Json& set_on_off(std::string_view name, const std::optional<bool>& value) {
        return value ? set(name, *value ? "on" : "off") : *this;
    }
    Json& set_null(std::string_view name) { return put(name, "null"); }
    Json& remove(std::string_view name);

    std::string text() const;

private:
    Json& put(std::string_view name, std::string value);
    std::vector<std::pair<std::string, std::string>> members_;  // values are JSON already
};

/// "first,key=value,...": commas in values are doubled. Keys and the first word must be QEMU's own or required words.
class KeyValues {
public:
    explicit KeyValues(std::string_view first = {}) : text_{first} {}

    KeyValues& add(std::string_view key, std::string_view value);
    KeyValues& add(std::string_view key, const char* value) { return add(key, std::string_view{value}); }
    KeyValues& add(std::string_view key, const std::string& value) { return add(key, std::string_view{value}); }
    template <std::same_as<bool> Bool>
    KeyValues& add(std::string_view key, Bool value) {
        return add(key, value ? std::string_view{"on"} : std::string_view{"off"});
    }
    template <std::integral Number>
        requires(!std::same_as<Number, bool>)
    KeyValues& add(std::string_view key, Number value) {
        return add(key, std::string_view{std::to_string(value)});
    }
    template <class T>
    KeyValues& add(std::string_view key, const std::optional<T>& value) {
        return value ? add(key, *value) : *this;
    }
    KeyValues& add_text(std::string_view key, std::string_view value) {
        return value.empty() ? *this : add(key, value);
    }
    bool empty() const { return text_.empty(); }
    const std::string& text() const { return text_; }

private:
    std::string text_;
};

}  // namespace virtbus::qemu
