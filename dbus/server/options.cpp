// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "virtbus/error.hpp"

namespace virtbus::dbus {

namespace {

constexpr std::size_t most_strings = 1024;
constexpr std::size_t longest_string = 4096;
constexpr std::size_t longest_name = 255;

std::string names_of(std::span<const Option> known) {
    if (known.empty()) return "it takes none";
    std::vector<std::string_view> names;
    for (const auto& option : known) names.emplace_back(option.name);
    return fmt::format("it takes {}", fmt::join(names, ", "));
}

void require_word(const Option& option, std::string_view method, std::string_view value) {
    const std::string_view words{option.words};
    if (words.empty()) return;
    for (std::size_t begin = 0; begin <= words.size();) {
        const std::size_t end = std::min(words.find(' ', begin), words.size());
        if (words.substr(begin, end - begin) == value) return;
        begin = end + 1;
    }
    std::string allowed{words};
    std::replace(allowed.begin(), allowed.end(), ' ', '|');
    throw Error{Code::invalid_option,
                fmt::format("option '{}' of {} cannot be '{}', only {}", option.name, method, value, allowed)};
}

OptionValue read_value(Reader& in, const Option& option, std::string_view method) {
    const std::string_view type{option.type};
    if (type == "b") return in.boolean();
    if (type == "u") return in.uint32();
    if (type == "t") return in.uint64();
    const std::string what = fmt::format("option '{}' of {}", option.name, method);
    if (type == "as") return read_strings(in, what);
    std::string text = in.string(option.limit, what);
    require_word(option, method, text);
    return text;
}

const Option& find_option(std::span<const Option> known, std::string_view method, const std::string& name) {
    const auto found =
        std::find_if(known.begin(), known.end(), [&](const Option& option) { return option.name == name; });
    if (found == known.end())
        throw Error{Code::invalid_option, fmt::format("{} has no option '{}'; {}", method, name, names_of(known))};
    return *found;
}

}  // namespace

void read_options(Reader& in, std::string_view method, std::span<const Option> known, void* options) {
    std::set<std::string_view> given;
    in.enter('a', "{sv}");
    while (in.enter('e', "sv")) {
        const std::string name = in.string(longest_name, fmt::format("the name of an option of {}", method));
        const Option& option = find_option(known, method, name);
        if (!given.insert(option.name).second)
            throw Error{Code::invalid_option, fmt::format("option '{}' of {} is given twice", name, method)};
        if (const std::string found = in.variant_contents(); found != option.type)
            throw Error{Code::invalid_option, fmt::format("option '{}' of {} has the type '{}'; it must be '{}'", name,
                                                          method, found, option.type)};
        in.enter('v', option.type);
        option.store(options, read_value(in, option, method));
        in.leave();
        in.leave();
    }
    in.leave();
}

std::vector<std::string> read_strings(Reader& in, std::string_view what) {
    std::vector<std::string> strings;
    in.enter('a', "s");
    while (!in.at_end()) {
        if (strings.size() == most_strings)
            throw Error{Code::limits_exceeded, fmt::format("{} has more than {} entries", what, most_strings)};
        strings.push_back(in.string(longest_string, fmt::format("an entry of {}", what)));
    }
    in.leave();
    return strings;
}

}  // namespace virtbus::dbus
