// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/dnsmasq_words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

constexpr std::size_t name_limit = 253;
constexpr std::size_t text_limit = 255;  // of a string in DNS
constexpr std::size_t device_limit = 15;
constexpr std::size_t id_limit = 3 * 130;  // a DUID has up to 130 bytes
constexpr std::size_t line_limit = 1000;   // dnsmasq reads lines into a buffer of 1025

bool is_control(char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}
bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
/// Bytes above ASCII are international names, which dnsmasq encodes itself.
bool is_of_name(char c) {
    return is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

std::string printable(std::string_view value) {
    std::string result;
    for (const char c : value.substr(0, 200))
        result += is_control(c) ? fmt::format("\\x{:02x}", static_cast<unsigned char>(c)) : std::string(1, c);
    return result;
}

/// What would run programs, become somebody else, read more options from elsewhere, or move what the service looks at.
constexpr std::array<std::string_view, 22> refused_options{
    "conf-dir",       "conf-file",    "conf-script",     "dhcp-hostsdir", "dhcp-hostsfile", "dhcp-leasefile",
    "dhcp-luascript", "dhcp-script",  "dhcp-scriptuser", "group",         "help",           "keep-in-foreground",
    "leasefile-ro",   "log-facility", "no-daemon",       "pid-file",      "script-arp",     "script-on-renewal",
    "test",           "user",         "version",         "servers-file"};

}  // namespace

void DnsmasqWords::refuse(std::string_view what, std::string_view value, std::string_view why) const {
    throw Error{Code::invalid_xml,
                fmt::format("Network '{}': {} is '{}', which {}", printable(network_), what, printable(value), why)};
}

std::string DnsmasqWords::host_name(const std::string& value, std::string_view what) const {
    if (value.empty() || value.size() > name_limit || !std::ranges::all_of(value, is_of_name) || value[0] == '-')
        refuse(what, value, "is no host name: letters, digits, '-', '_' and '.', at most 253");
    return value;
}

std::string DnsmasqWords::device(const std::string& value, std::string_view what) const {
    const auto fits = [](char c) { return is_of_name(c) || c == '@' || c == '+' || c == ':'; };
    if (value.empty() || value.size() > device_limit || !std::ranges::all_of(value, fits))
        refuse(what, value, "is no name of a network device: letters, digits and '-_.:@+', at most 15");
    return value;
}

std::string DnsmasqWords::mac(const std::string& value, std::string_view what) const {
    bool fits = value.size() == 17;
    for (std::size_t i = 0; fits && i < value.size(); ++i) fits = i % 3 == 2 ? value[i] == ':' : is_hex(value[i]);
    if (!fits) refuse(what, value, "is no MAC address: six pairs of hexadecimal digits with ':' between them");
    return value;
}

std::string DnsmasqWords::client_id(const std::string& value, std::string_view what) const {
    const auto fits = [](char c) { return is_hex(c) || c == ':'; };
    if (value.empty() || value.size() > id_limit || !std::ranges::all_of(value, fits))
        refuse(what, value, "is no client identifier: hexadecimal numbers with ':' between them");
    return value;
}

Ip DnsmasqWords::address(const std::string& value, std::string_view what) const {
    const auto found = Ip::parse(value);
    if (!found) refuse(what, value, "is no IP address");
    return *found;
}

std::string DnsmasqWords::quoted(const std::string& value, std::string_view what) const {
    if (std::ranges::any_of(value, is_control)) refuse(what, value, "has characters that are none of one line's text");
    if (value.size() > line_limit / 2) refuse(what, value.substr(0, 40), "is too long");
    std::string result{'"'};
    for (const char c : value) {
        if (c == '"' || c == '\\') result += '\\';
        result += c;
    }
    return result + '"';
}

std::string DnsmasqWords::quoted_text(const std::string& value, std::string_view what) const {
    if (value.size() > text_limit) refuse(what, value.substr(0, 40), "is too long: DNS takes 255 bytes");
    return quoted(value, what);
}

std::string DnsmasqWords::lease_time(const std::optional<LeaseTime>& time) const {
    if (!time || !time->expiry) return {};
    if (*time->expiry == 0) return "infinite";
    const std::uint64_t unit = time->unit == "seconds" ? 1 : time->unit == "hours" ? 3600 : 60;
    if (*time->expiry > (std::numeric_limits<std::uint32_t>::max() - 1) / unit)
        refuse("a lease time", std::to_string(*time->expiry) + " " + time->unit, "is too long; 0 is for ever");
    return std::to_string(*time->expiry * unit);
}

std::string DnsmasqWords::option(const std::string& line) const {
    constexpr std::string_view what = "a line of <dnsmasq:options>";
    const auto begin = line.find_first_not_of(" \t");
    if (begin == std::string::npos || line[begin] == '#') return {};
    if (std::ranges::any_of(line, [](char c) { return is_control(c) && c != '\t'; }))
        refuse(what, line, "is more than one line");
    if (line.size() > line_limit) refuse(what, line.substr(0, 40), "is too long");
    auto name = line.substr(begin, line.find('=', begin) - begin);
    name.erase(name.find_last_not_of(" \t") + 1);
    // Quotes would be taken away before dnsmasq looks at the name.
    if (!std::ranges::all_of(name, [](char c) { return is_letter(c) || is_digit(c) || c == '-'; }))
        refuse(what, line, "is no option of its configuration file");
    if (std::ranges::find(refused_options, name) != refused_options.end())
        throw Error{Code::unsupported_configuration,
                    fmt::format("Network '{}': the dnsmasq option '{}' is not taken: it would run programs, read other "
                                "files of options or take away what the service itself sets",
                                printable(network_), name)};
    return line;
}

}  // namespace virtbus::network
