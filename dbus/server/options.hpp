// SPDX-License-Identifier: LGPL-2.1-or-later
// Reads the a{sv} options of a method into its struct: what is unknown, given twice or of the wrong type is
// InvalidOption, naming it. Which options exclude each other is for service/ to know.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "dbus/server/message.hpp"

namespace virtbus::dbus {

using OptionValue = std::variant<bool, std::uint32_t, std::uint64_t, std::string, std::vector<std::string>>;

struct Option {
    const char* name;
    const char* type;   ///< b, u, t, s or as
    const char* words;  ///< the allowed ones, with spaces between; "" for any
    void (*store)(void* options, OptionValue value);
    std::size_t limit = 4096;  ///< bytes of a string
};

/// The store function of an option that is the member of a struct.
template <auto Member>
struct Store;
template <class Options, class T, T Options::* Member>
struct Store<Member> {
    static void to(void* options, OptionValue value) {
        static_cast<Options*>(options)->*Member = std::get<T>(std::move(value));
    }
};

void read_options(Reader& in, std::string_view method, std::span<const Option> known, void* options);

/// An array of strings, at most 1024 of at most 4096 bytes; LimitsExceeded beyond.
std::vector<std::string> read_strings(Reader& in, std::string_view what);

}  // namespace virtbus::dbus
