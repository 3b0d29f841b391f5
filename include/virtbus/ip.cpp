// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtbus/ip.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

namespace virtbus {

namespace {

/// A number of at most `digits` digits without a leading zero; takes it off the text.
std::optional<unsigned> take_number(std::string_view& text, std::size_t digits, int base) {
    unsigned number = 0;
    const auto* limit = text.data() + std::min(text.size(), digits);
    const auto [end, error] = std::from_chars(text.data(), limit, number, base);
    if (error != std::errc{}) return {};
    const auto length = static_cast<std::size_t>(end - text.data());
    if (base == 10 && length > 1 && text.front() == '0') return {};
    text.remove_prefix(length);
    return number;
}

bool take(std::string_view& text, std::string_view mark) {
    if (!text.starts_with(mark)) return false;
    text.remove_prefix(mark.size());
    return true;
}

bool parse_v4(std::string_view text, std::uint8_t* bytes) {
    for (int i = 0; i < 4; ++i) {
        if (i && !take(text, ".")) return false;
        const auto number = take_number(text, 3, 10);
        if (!number || *number > 255) return false;
        bytes[i] = static_cast<std::uint8_t>(*number);
    }
    return text.empty();
}

/// Groups up to "::" or the end; false when they are not written right or are too many for `room` bytes.
bool parse_groups(std::string_view& text, std::uint8_t* bytes, std::size_t room, std::size_t& used) {
    for (used = 0; !text.empty() && !text.starts_with("::"); used += 2) {
        if (used && !take(text, ":")) return false;
        const auto group = text.substr(0, text.find(':'));
        if (group.find('.') != group.npos && group.size() == text.size()) {
            if (room - used < 4 || !parse_v4(group, bytes + used)) return false;
            used += 4;
            text = {};
            return true;
        }
        const auto number = room - used < 2 ? std::nullopt : take_number(text, 4, 16);
        if (!number) return false;
        bytes[used] = static_cast<std::uint8_t>(*number >> 8U);
        bytes[used + 1] = static_cast<std::uint8_t>(*number & 0xffU);
    }
    return true;
}

bool parse_v6(std::string_view text, std::array<std::uint8_t, 16>& bytes) {
    std::size_t before = 0, after = 0;
    if (!parse_groups(text, bytes.data(), 16, before)) return false;
    if (!take(text, "::")) return text.empty() && before == 16;
    // What stands for at least one group of zeros.
    std::array<std::uint8_t, 16> tail{};
    if (before > 14 || !parse_groups(text, tail.data(), 14 - before, after) || !text.empty()) return false;
    std::copy_n(tail.begin(), after, bytes.end() - static_cast<std::ptrdiff_t>(after));
    return true;
}

std::string v4_text(const std::uint8_t* bytes) {
    std::string text;
    for (int i = 0; i < 4; ++i) {
        if (i) text += '.';
        text += std::to_string(bytes[i]);
    }
    return text;
}

struct Run {
    unsigned start = 0, length = 0;
};
/// The first of the longest runs of zero groups; one group is none.
Run longest_run(const std::array<unsigned, 8>& groups) {
    Run best, now;
    for (unsigned i = 0; i < 8; ++i) {
        now = groups[i] ? Run{} : Run{now.length ? now.start : i, now.length + 1};
        if (now.length > best.length) best = now;
    }
    return best.length > 1 ? best : Run{};
}

std::string v6_text(const std::array<std::uint8_t, 16>& bytes) {
    std::array<unsigned, 8> groups{};
    for (unsigned i = 0; i < 8; ++i) groups[i] = bytes[2 * i] * 256U + bytes[2 * i + 1];
    const auto run = longest_run(groups);
    const bool with_v4 = run.start == 0 && (run.length == 6 || (run.length == 5 && groups[5] == 0xffff));
    std::string text;
    for (unsigned i = 0; i < 8; ++i) {
        if (run.length && i == run.start) {
            text += "::";
            i += run.length - 1;
            continue;
        }
        if (i && !text.ends_with("::")) text += ':';
        if (with_v4 && i == 6) return text + v4_text(&bytes[12]);
        std::array<char, 4> digits{};
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), groups[i], 16).ptr;
        text.append(digits.data(), end);
    }
    return text;
}

/// Whether the first `prefix` bits are the same.
bool same_prefix(const Ip& a, const Ip& b, unsigned prefix) {
    const auto whole = prefix / 8, rest = prefix % 8;
    if (!std::equal(a.bytes.begin(), a.bytes.begin() + whole, b.bytes.begin())) return false;
    return rest == 0 || (a.bytes[whole] >> (8 - rest)) == (b.bytes[whole] >> (8 - rest));
}

/// The bits behind the prefix all zero or all one.
Ip with_host_bits(Ip ip, unsigned prefix, bool ones) {
    for (unsigned i = 0; i < ip.bits() / 8; ++i) {
        const unsigned kept = std::clamp(prefix, 8 * i, 8 * i + 8) - 8 * i;
        const auto host = static_cast<std::uint8_t>(0xffU >> kept);
        ip.bytes[i] = static_cast<std::uint8_t>(ones ? ip.bytes[i] | host : ip.bytes[i] & ~host);
    }
    return ip;
}

}  // namespace

std::optional<Ip> Ip::parse(std::string_view text) {
    Ip ip;
    ip.v6 = text.find(':') != text.npos;
    if (ip.v6 ? parse_v6(text, ip.bytes) : parse_v4(text, ip.bytes.data())) return ip;
    return {};
}

std::string Ip::text() const {
    return v6 ? v6_text(bytes) : v4_text(bytes.data());
}

std::optional<IpNet> IpNet::parse(std::string_view text) {
    const auto slash = text.find('/');
    const auto address = Ip::parse(text.substr(0, slash));
    if (!address) return {};
    if (slash == text.npos) return IpNet{*address, address->bits()};
    text.remove_prefix(slash + 1);
    const auto prefix = take_number(text, 3, 10);
    if (!prefix || !text.empty() || *prefix > address->bits()) return {};
    return IpNet{*address, *prefix};
}

std::string IpNet::text() const {
    return address.text() + '/' + std::to_string(prefix);
}

IpNet IpNet::network() const {
    return {with_host_bits(address, prefix, false), prefix};
}

Ip IpNet::last() const {
    return with_host_bits(address, prefix, true);
}

bool IpNet::contains(const Ip& other) const {
    return other.v6 == address.v6 && same_prefix(address, other, std::min(prefix, address.bits()));
}

bool IpNet::overlaps(const IpNet& other) const {
    return prefix <= other.prefix ? contains(other.address) : other.contains(address);
}

std::optional<unsigned> prefix_of_netmask(const Ip& mask) {
    const Ip ones = with_host_bits(Ip{mask.v6, {}}, 0, true);
    for (unsigned prefix = 0; prefix <= mask.bits(); ++prefix)
        if (with_host_bits(ones, prefix, false) == mask) return prefix;
    return {};
}

std::uint64_t count_between(const Ip& first, const Ip& last) {
    if (first.v6 != last.v6 || last < first) return 0;
    constexpr auto most = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t difference = 0;
    int borrow = 0;
    for (int i = static_cast<int>(first.bits() / 8) - 1, weight = 0; i >= 0; --i, weight += 8) {
        const auto at = static_cast<std::size_t>(i);
        const int digit = last.bytes[at] - first.bytes[at] - borrow;
        borrow = digit < 0;
        const auto byte = static_cast<std::uint64_t>(digit + 256 * borrow);
        if (weight >= 64 && byte) return most;
        if (weight < 64) difference |= byte << static_cast<unsigned>(weight);
    }
    return difference == most ? most : difference + 1;
}

}  // namespace virtbus
