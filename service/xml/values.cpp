// SPDX-License-Identifier: LGPL-2.1-or-later
// The scalars of the tables: how each C++ type is spelled in libvirt's XML.
#include "service/xml/values.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "service/xml/table.hpp"

namespace virtbus::xml {

namespace {

constexpr unsigned largest_cpu = 16383;

struct UnitName {
    std::string_view name;
    std::uint64_t scale;
};
constexpr std::uint64_t k = 1024, d = 1000;
constexpr std::array units{
    UnitName{"b", 1},
    UnitName{"byte", 1},
    UnitName{"bytes", 1},
    UnitName{"k", k},
    UnitName{"KiB", k},
    UnitName{"KB", d},
    UnitName{"M", k* k},
    UnitName{"MiB", k* k},
    UnitName{"MB", d* d},
    UnitName{"G", k* k* k},
    UnitName{"GiB", k* k* k},
    UnitName{"GB", d* d* d},
    UnitName{"T", k* k* k* k},
    UnitName{"TiB", k* k* k* k},
    UnitName{"TB", d* d* d* d},
    UnitName{"P", k* k* k* k* k},
    UnitName{"PiB", k* k* k* k* k},
    UnitName{"PB", d* d* d* d* d},
    UnitName{"E", k* k* k* k* k* k},
    UnitName{"EiB", k* k* k* k* k* k},
    UnitName{"EB", d* d* d* d* d* d},
};

bool same_ignoring_case(std::string_view a, std::string_view b) {
    auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

template <class T>
bool parse_number(const Row& row, std::string_view text, T& number) {
    text = trim(text);
    int base = row.style == Style::octal ? 8 : 10;
    if (row.style != Style::octal && text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        text.remove_prefix(2);
        base = 16;
    } else if (!text.empty() && text[0] == '+') {
        text.remove_prefix(1);
        if (text.starts_with('-')) return false;
    }
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
    if (error != std::errc{} || end != text.data() + text.size()) return false;
    if constexpr (std::is_signed_v<T>) {
        return number >= row.minimum && (number < 0 || static_cast<std::uint64_t>(number) <= row.maximum);
    } else {
        return (row.minimum < 0 || number >= static_cast<std::uint64_t>(row.minimum)) && number <= row.maximum;
    }
}

template <class T>
void format_number(const Row& row, T number, std::string& out) {
    switch (row.style) {
        case Style::hex:
            fmt::format_to(std::back_inserter(out), "0x{:0{}x}", number, row.width);
            break;
        case Style::octal:
            fmt::format_to(std::back_inserter(out), "{:0{}o}", number, row.width);
            break;
        default:
            fmt::format_to(std::back_inserter(out), "{}", number);
    }
}

template <class T>
std::string number_allowed(const Row& row) {
    const auto low = std::max<std::int64_t>(row.minimum, std::is_signed_v<T> ? std::numeric_limits<T>::min() : 0);
    const auto high = std::min<std::uint64_t>(row.maximum, std::numeric_limits<T>::max());
    return fmt::format("a{} number from {} to {}", row.style == Style::octal ? "n octal" : " whole", low, high);
}

template <class T>
struct Number {
    static bool parse(const Row& row, std::string_view text, void* member) {
        return parse_number(row, text, *static_cast<T*>(member));
    }
    static bool format(const Row& row, const void* member, std::string& out) {
        format_number(row, *static_cast<const T*>(member), out);
        return true;
    }
    static std::string allowed(const Row& row) { return number_allowed<T>(row); }
};

struct Bool {
    static bool parse(const Row& row, std::string_view text, void* member) {
        const bool on_off = row.style == Style::on_off;
        const bool yes = text == (on_off ? "on" : "yes");
        *static_cast<bool*>(member) = yes;
        return yes || text == (on_off ? "off" : "no");
    }
    static bool format(const Row& row, const void* member, std::string& out) {
        const bool yes = *static_cast<const bool*>(member);
        out += row.style == Style::on_off ? (yes ? "on" : "off") : (yes ? "yes" : "no");
        return true;
    }
    static std::string allowed(const Row& row) { return row.style == Style::on_off ? "on, off" : "yes, no"; }
};

bool in_list(std::string_view list, std::string_view word) {
    while (true) {
        const auto bar = list.find('|');
        if (list.substr(0, bar) == word) return true;
        if (bar == list.npos) return false;
        list.remove_prefix(bar + 1);
    }
}

struct String {
    static bool parse(const Row& row, std::string_view text, void* member) {
        auto& value = *static_cast<std::string*>(member);
        if (row.words) {
            value = trim(text);
            return in_list(row.words, value);
        }
        if (row.style == Style::uuid) return parse_uuid(trim(text), value);
        if (row.style == Style::mac) return parse_mac(trim(text), value);
        if (row.required_ && text.empty()) return false;
        value = text;
        return true;
    }
    static bool format(const Row& row, const void* member, std::string& out) {
        const auto& value = *static_cast<const std::string*>(member);
        out += value;
        return !value.empty() || row.always_;
    }
    static std::string allowed(const Row& row) {
        if (row.words) {
            std::string list;
            for (const char* c = row.words; *c; ++c) *c == '|' ? list += ", " : list += *c;
            return list;
        }
        if (row.style == Style::uuid) return "a UUID of 32 hexadecimal digits";
        if (row.style == Style::mac) return "a unicast MAC address such as 52:54:00:12:34:56";
        return "a text that is not empty";
    }
};

struct CpuSetText {
    static bool parse(const Row&, std::string_view text, void* member) {
        return parse_cpu_set(trim(text), *static_cast<CpuSet*>(member));
    }
    static bool format(const Row& row, const void* member, std::string& out) {
        const auto& set = *static_cast<const CpuSet*>(member);
        out += format_cpu_set(set);
        return !set.empty() || row.always_;
    }
    static std::string allowed(const Row&) {
        return fmt::format("a list of numbers up to {} such as 0-3,^2,8", largest_cpu);
    }
};

template <class T, class Plain>
struct Optional {
    static bool parse(const Row& row, std::string_view text, void* member) {
        auto& value = *static_cast<std::optional<T>*>(member);
        if constexpr (std::is_unsigned_v<T>)
            // Where that is allowed it is the long way of saying nothing.
            if (row.minimum == -1 && trim(text) == "-1") return value.reset(), true;
        return Plain::parse(row, text, &value.emplace());
    }
    static bool format(const Row& row, const void* member, std::string& out) {
        const auto& value = *static_cast<const std::optional<T>*>(member);
        if (!value) return false;
        Plain::format(row, &*value, out);
        return true;
    }
};

template <class Plain>
constexpr Value plain{Plain::parse, Plain::format, Plain::allowed};
template <class T, class Plain>
constexpr Value optional{Optional<T, Plain>::parse, Optional<T, Plain>::format, Plain::allowed};

}  // namespace

namespace detail {

const Value string_value = plain<String>;
const Value optional_string_value = optional<std::string, String>;
const Value bool_value = plain<Bool>;
const Value optional_bool_value = optional<bool, Bool>;
const Value uint32_value = plain<Number<std::uint32_t>>;
const Value optional_uint32_value = optional<std::uint32_t, Number<std::uint32_t>>;
const Value uint64_value = plain<Number<std::uint64_t>>;
const Value optional_uint64_value = optional<std::uint64_t, Number<std::uint64_t>>;
const Value int32_value = plain<Number<std::int32_t>>;
const Value optional_int32_value = optional<std::int32_t, Number<std::int32_t>>;
const Value optional_int64_value = optional<std::int64_t, Number<std::int64_t>>;
const Value cpu_set_value = plain<CpuSetText>;
const Value optional_cpu_set_value = optional<CpuSet, CpuSetText>;

bool parse_word(std::span<const std::string_view> words, std::string_view text, std::size_t& index) {
    const auto found = std::find(words.begin(), words.end(), trim(text));
    index = static_cast<std::size_t>(found - words.begin());
    return found != words.end() && !found->empty();  // "" is for what is not there
}

std::string list_words(std::span<const std::string_view> words) {
    const auto first = words.empty() || !words.front().empty() ? 0 : 1;
    return fmt::format("{}", fmt::join(words.subspan(first), ", "));
}

}  // namespace detail

std::string_view trim(std::string_view text) {
    constexpr std::string_view blank = " \t\r\n";
    const auto first = text.find_first_not_of(blank);
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

bool parse_uuid(std::string_view text, std::string& uuid) {
    std::string digits;
    for (char c : text) {
        if (c == '-' || c == ' ') continue;
        if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
        digits += c;
    }
    if (digits.size() != 32 || text.starts_with('-') || text.ends_with('-')) return false;
    for (std::size_t at : {8U, 13U, 18U, 23U}) digits.insert(at, 1, '-');
    uuid = std::move(digits);
    return true;
}

bool parse_mac(std::string_view text, std::string& mac) {
    std::string result;
    unsigned first = 0;
    for (int part = 0; part < 6; ++part) {
        unsigned byte = 0;
        const auto end = part < 5 ? text.find(':') : text.size();
        if (end == text.npos || end == 0 || end > 2) return false;
        const auto [stop, error] = std::from_chars(text.data(), text.data() + end, byte, 16);
        if (error != std::errc{} || stop != text.data() + end) return false;
        if (part == 0) first = byte;
        fmt::format_to(std::back_inserter(result), "{}{:02x}", part ? ":" : "", byte);
        text.remove_prefix(part < 5 ? end + 1 : end);
    }
    mac = std::move(result);
    return (first & 1U) == 0;
}

bool parse_cpu_set(std::string_view text, CpuSet& set) {
    std::vector<bool> in(largest_cpu + 1);
    while (true) {
        const auto comma = text.find(',');
        auto part = trim(text.substr(0, comma));
        const bool without = part.starts_with('^');
        if (without) part.remove_prefix(1);
        unsigned low = 0;
        const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), low);
        if (error != std::errc{} || low > largest_cpu) return false;
        part.remove_prefix(static_cast<std::size_t>(end - part.data()));
        unsigned high = low;
        if (part.starts_with('-')) {
            part.remove_prefix(1);
            const auto [stop, fault] = std::from_chars(part.data(), part.data() + part.size(), high);
            if (fault != std::errc{} || stop != part.data() + part.size() || high > largest_cpu || high < low)
                return false;
        } else if (!part.empty()) {
            return false;
        }
        for (auto n = low; n <= high; ++n) in[n] = !without;
        if (comma == text.npos) break;
        text.remove_prefix(comma + 1);
    }
    set.numbers.clear();
    for (unsigned n = 0; n <= largest_cpu; ++n)
        if (in[n]) set.numbers.push_back(n);
    return !set.empty();
}

std::string format_cpu_set(const CpuSet& set) {
    std::string out;
    const auto& n = set.numbers;
    for (std::size_t i = 0, last = 0; i < n.size(); i = last + 1) {
        for (last = i; last + 1 < n.size() && n[last + 1] == n[last] + 1;) ++last;
        fmt::format_to(std::back_inserter(out), "{}{}", out.empty() ? "" : ",", n[i]);
        if (last > i) fmt::format_to(std::back_inserter(out), "-{}", n[last]);
    }
    return out;
}

bool parse_scaled(std::string_view number, std::string_view unit, std::uint64_t default_scale, std::uint64_t& bytes) {
    number = trim(number);
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), bytes);
    if (error != std::errc{} || end != number.data() + number.size()) return false;
    auto scale = default_scale;
    if (!unit.empty()) {
        const auto* known = std::find_if(units.begin(), units.end(),
                                         [&](const UnitName& u) { return same_ignoring_case(u.name, unit); });
        if (known == units.end()) return false;
        scale = known->scale;
    }
    return !__builtin_mul_overflow(bytes, scale, &bytes);
}

ScaledText format_scaled(std::uint64_t bytes, Unit unit) {
    constexpr std::array<std::string_view, 7> best{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    switch (unit) {
        case Unit::bytes:
            return {bytes, "bytes"};
        case Unit::b:
            return {bytes, "B"};
        case Unit::kib:
            return {bytes / k + (bytes % k != 0), "KiB"};
        case Unit::mib_short:
            return {bytes / (k * k) + (bytes % (k * k) != 0), "M"};
        case Unit::best:
            break;
    }
    std::size_t power = 0;
    for (; bytes != 0 && bytes % k == 0 && power + 1 < best.size(); ++power) bytes /= k;
    return {bytes, best[power]};
}

}  // namespace virtbus::xml
