// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/networking/filter_fields.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "virtbus/error.hpp"
#include "virtbus/ip.hpp"

namespace virtbus {

namespace {

struct Word {
    std::string_view word;
    std::uint32_t value;
};

enum class Type { number, mac, mac_mask, ipv4, ipv4_mask, ipv6, ipv6_mask, boolean, states, tcp_flags, name, comment };

constexpr std::uint32_t most8 = 0xff, most16 = 0xffff, most32 = 0xffffffff;
constexpr Word ethertypes[]{{"arp", 0x806}, {"rarp", 0x8035}, {"ipv4", 0x800}, {"ipv6", 0x86dd}, {"vlan", 0x8100}};
constexpr Word opcodes[]{{"request", 1},       {"reply", 2},         {"request_reverse", 3},
                         {"reply_reverse", 4}, {"drarp_request", 5}, {"drarp_reply", 6},
                         {"drarp_error", 7},   {"inarp_request", 8}, {"arp_nak", 9}};
constexpr Word ip_protocols[]{{"icmp", 1}, {"igmp", 2},    {"tcp", 6},    {"udp", 17},     {"esp", 50},
                              {"ah", 51},  {"icmpv6", 58}, {"sctp", 132}, {"udplite", 136}};

}  // namespace

struct FilterField {
    std::string_view name;
    Type type = Type::number;
    std::uint32_t most = most16;
    std::span<const Word> words{};
    std::uint32_t least = 0;
};

namespace {

constexpr FilterField comment[]{{"comment", Type::comment}};
constexpr FilterField ethernet[]{{"srcmacaddr", Type::mac},
                                 {"srcmacmask", Type::mac_mask},
                                 {"dstmacaddr", Type::mac},
                                 {"dstmacmask", Type::mac_mask}};
constexpr FilterField mac_only[]{{"protocolid", Type::number, most16, ethertypes, 0x600}};
constexpr FilterField vlan_only[]{{"vlanid", Type::number, 4095},
                                  {"encap-protocol", Type::number, most16, ethertypes, 0x3c}};
constexpr FilterField stp_only[]{{"type", Type::number, most8},
                                 {"flags", Type::number, most8},
                                 {"root-priority"},
                                 {"root-priority-hi"},
                                 {"root-address", Type::mac},
                                 {"root-address-mask", Type::mac_mask},
                                 {"root-cost", Type::number, most32},
                                 {"root-cost-hi", Type::number, most32},
                                 {"sender-priority"},
                                 {"sender-priority-hi"},
                                 {"sender-address", Type::mac},
                                 {"sender-address-mask", Type::mac_mask},
                                 {"port"},
                                 {"port-hi"},
                                 {"msg-age"},
                                 {"msg-age-hi"},
                                 {"max-age"},
                                 {"max-age-hi"},
                                 {"hello-time"},
                                 {"hello-time-hi"},
                                 {"forward-delay"},
                                 {"forward-delay-hi"}};
constexpr FilterField arp_only[]{{"hwtype"},
                                 {"protocoltype"},
                                 {"opcode", Type::number, most16, opcodes},
                                 {"arpsrcmacaddr", Type::mac},
                                 {"arpdstmacaddr", Type::mac},
                                 {"arpsrcipaddr", Type::ipv4},
                                 {"arpsrcipmask", Type::ipv4_mask},
                                 {"arpdstipaddr", Type::ipv4},
                                 {"arpdstipmask", Type::ipv4_mask},
                                 {"gratuitous", Type::boolean}};
constexpr FilterField ipv4_addresses[]{{"srcipaddr", Type::ipv4},
                                       {"srcipmask", Type::ipv4_mask},
                                       {"dstipaddr", Type::ipv4},
                                       {"dstipmask", Type::ipv4_mask}};
constexpr FilterField ipv6_addresses[]{{"srcipaddr", Type::ipv6},
                                       {"srcipmask", Type::ipv6_mask},
                                       {"dstipaddr", Type::ipv6},
                                       {"dstipmask", Type::ipv6_mask}};
constexpr FilterField ipv4_ranges[]{
    {"srcipfrom", Type::ipv4}, {"srcipto", Type::ipv4}, {"dstipfrom", Type::ipv4}, {"dstipto", Type::ipv4}};
constexpr FilterField ipv6_ranges[]{
    {"srcipfrom", Type::ipv6}, {"srcipto", Type::ipv6}, {"dstipfrom", Type::ipv6}, {"dstipto", Type::ipv6}};
constexpr FilterField ports[]{{"srcportstart"}, {"srcportend"}, {"dstportstart"}, {"dstportend"}};
constexpr FilterField dscp[]{{"dscp", Type::number, 63}};
constexpr FilterField inner[]{{"protocol", Type::number, most8, ip_protocols}};
constexpr FilterField icmp_types[]{{"type", Type::number, most8}, {"code", Type::number, most8}};
constexpr FilterField icmp_ends[]{{"typeend", Type::number, most8}, {"codeend", Type::number, most8}};
constexpr FilterField connections[]{
    {"state", Type::states}, {"connlimit-above"}, {"ipset", Type::name}, {"ipsetflags", Type::name}};
constexpr FilterField tcp_only[]{{"flags", Type::tcp_flags}, {"option", Type::number, most8}};

using Fields = std::span<const FilterField>;
struct Protocol {
    std::string_view name;
    std::array<Fields, 8> fields;
};
constexpr Protocol protocols[]{
    {"mac", {comment, ethernet, mac_only}},
    {"vlan", {comment, ethernet, vlan_only}},
    {"stp", {comment, Fields{ethernet}.first(2), stp_only}},
    {"arp", {comment, ethernet, arp_only}},
    {"rarp", {comment, ethernet, arp_only}},
    {"ip", {comment, ethernet, ipv4_addresses, inner, ports, dscp}},
    {"ipv6", {comment, ethernet, ipv6_addresses, inner, ports, icmp_types, icmp_ends, dscp}},
    {"tcp", {comment, ethernet, ipv4_addresses, ipv4_ranges, dscp, connections, ports, tcp_only}},
    {"udp", {comment, ethernet, ipv4_addresses, ipv4_ranges, dscp, connections, ports}},
    {"sctp", {comment, ethernet, ipv4_addresses, ipv4_ranges, dscp, connections, ports}},
    {"icmp", {comment, ethernet, ipv4_addresses, ipv4_ranges, dscp, connections, icmp_types}},
    {"udplite", {comment, ethernet, ipv4_addresses, ipv4_ranges, dscp, connections}},
    {"igmp", {comment, ethernet, ipv4_addresses, ipv4_ranges, dscp, connections}},
    {"esp", {comment, ethernet, ipv4_addresses, ipv4_ranges, dscp, connections}},
    {"ah", {comment, ethernet, ipv4_addresses, ipv4_ranges, dscp, connections}},
    {"all", {comment, ethernet, ipv4_addresses, ipv4_ranges, dscp, connections}},
    {"tcp-ipv6", {comment, ethernet, ipv6_addresses, ipv6_ranges, dscp, connections, ports, tcp_only}},
    {"udp-ipv6", {comment, ethernet, ipv6_addresses, ipv6_ranges, dscp, connections, ports}},
    {"sctp-ipv6", {comment, ethernet, ipv6_addresses, ipv6_ranges, dscp, connections, ports}},
    {"icmpv6", {comment, ethernet, ipv6_addresses, ipv6_ranges, dscp, connections, icmp_types}},
    {"udplite-ipv6", {comment, ethernet, ipv6_addresses, ipv6_ranges, dscp, connections}},
    {"esp-ipv6", {comment, ethernet, ipv6_addresses, ipv6_ranges, dscp, connections}},
    {"ah-ipv6", {comment, ethernet, ipv6_addresses, ipv6_ranges, dscp, connections}},
    {"all-ipv6", {comment, ethernet, ipv6_addresses, ipv6_ranges, dscp, connections}},
};

std::string lower(std::string_view text) {
    std::string out{text};
    std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 'a' - 'A') : c; });
    return out;
}

std::vector<std::string> split(std::string_view text, char by) {
    std::vector<std::string> parts;
    for (;;) {
        const auto at = text.find(by);
        parts.emplace_back(text.substr(0, at));
        if (at == text.npos) return parts;
        text.remove_prefix(at + 1);
    }
}

[[noreturn]] void refuse(std::string_view text, const std::string& allowed) {
    constexpr std::size_t longest = 60;
    throw Error{Code::invalid_xml, fmt::format("'{}{}' is not allowed; allowed: {}", text.substr(0, longest),
                                               text.size() > longest ? "..." : "", allowed)};
}

std::optional<std::uint32_t> number(std::string_view text) {
    int base = 10;
    if (text.starts_with("0x") || text.starts_with("0X")) text.remove_prefix(2), base = 16;
    std::uint32_t value = 0;
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (text.empty() || fault != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::string plain_number(const FilterField& field, std::string_view text) {
    auto value = number(text);
    for (const auto& [word, meaning] : field.words)
        if (lower(text) == word) value = meaning;
    if (value && *value >= field.least && *value <= field.most) return fmt::format("{}", *value);
    std::string words;
    for (const auto& each : field.words) words += fmt::format(", {}", each.word);
    refuse(text, fmt::format("a number from {} to {}{}", field.least, field.most, words));
}

std::string plain_mac(std::string_view text) {
    constexpr std::size_t bytes = 6;
    const auto parts = split(text, ':');
    std::string out;
    for (const auto& part : parts) {
        unsigned value = 0;
        const auto [end, fault] = std::from_chars(part.data(), part.data() + part.size(), value, 16);
        if (part.empty() || part.size() > 2 || fault != std::errc{} || end != part.data() + part.size() ||
            parts.size() != bytes)
            refuse(text, "six bytes such as 52:54:00:aa:bb:cc");
        out += fmt::format("{}{:02x}", out.empty() ? "" : ":", value);
    }
    return out;
}

std::string plain_ip(std::string_view text, bool v6) {
    const auto ip = Ip::parse(text);
    if (!ip || ip->v6 != v6) refuse(text, v6 ? "an IPv6 address" : "an IPv4 address");
    return ip->text();
}

/// From a mask or the length of a prefix.
std::string plain_mask(std::string_view text, bool v6) {
    Ip mask;
    mask.v6 = v6;
    if (const auto length = number(text); length && *length <= mask.bits()) {
        for (unsigned bit = 0; bit < *length; ++bit) mask.bytes[bit / 8] |= std::uint8_t(0x80U >> (bit % 8));
        return mask.text();
    }
    const auto written = Ip::parse(text);
    if (!written || written->v6 != v6)
        refuse(text, v6 ? "a length from 0 to 128 or a mask such as ffff::"
                        : "a length from 0 to 32 or a mask such as 255.255.0.0");
    return written->text();
}

constexpr Word state_words[]{{"new", 0}, {"established", 0}, {"related", 0}, {"invalid", 0}, {"none", 0}};
constexpr std::string_view flag_words[]{"fin", "syn", "rst", "psh", "ack", "urg"};

std::string plain_states(std::string_view text) {
    std::string out;
    for (const auto& part : split(text, ',')) {
        const auto word = lower(part);
        if (std::ranges::find(state_words, word, &Word::word) == std::end(state_words))
            refuse(text, "a list of NEW, ESTABLISHED, RELATED, INVALID, NONE");
        out += (out.empty() ? "" : ",") + (word == "none" ? std::string{"untracked"} : word);
    }
    return out;
}

std::string plain_flag_list(std::string_view whole, std::string_view text) {
    if (lower(text) == "none") return {};
    if (lower(text) == "all") return "fin,syn,rst,psh,ack,urg";
    std::string out;
    for (const auto& part : split(text, ',')) {
        if (std::ranges::find(flag_words, lower(part)) == std::end(flag_words))
            refuse(whole, "MASK/FLAGS, each ALL, NONE or a list of SYN, ACK, URG, PSH, FIN, RST");
        out += (out.empty() ? "" : ",") + lower(part);
    }
    return out;
}

std::string plain_flags(std::string_view text) {
    const auto slash = text.find('/');
    if (slash == text.npos) refuse(text, "MASK/FLAGS, such as SYN,ACK/SYN");
    return plain_flag_list(text, text.substr(0, slash)) + "/" + plain_flag_list(text, text.substr(slash + 1));
}

std::string plain_boolean(std::string_view text) {
    const auto word = lower(text);
    if (word == "1" || word == "yes" || word == "true") return "1";
    if (word == "0" || word == "no" || word == "false") return "0";
    refuse(text, "true, yes, 1, false, no, 0");
}

std::string plain_name(std::string_view text) {
    constexpr std::size_t longest = 64;
    const auto harmless = [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               std::string_view{"_.:-+, "}.find(c) != std::string_view::npos;
    };
    if (text.empty() || text.size() > longest || !std::ranges::all_of(text, harmless))
        refuse(text, "at most 64 letters, digits and _ . : - +");
    return std::string{text};
}

std::string plain_comment(std::string_view text) {
    constexpr std::size_t longest = 256;
    if (text.size() > longest) refuse(text, "a text of at most 256 bytes");
    return std::string{text};
}

const Protocol* find_protocol(std::string_view name) {
    const auto found = std::ranges::find(protocols, name, &Protocol::name);
    return found == std::end(protocols) ? nullptr : &*found;
}

}  // namespace

const FilterField* find_field(std::string_view protocol, std::string_view attribute) {
    const auto* known = find_protocol(protocol);
    if (!known) return nullptr;
    // As the documentation of the format spells it once.
    if (attribute == "port_hi") attribute = "port-hi";
    for (const auto& fields : known->fields)
        for (const auto& field : fields)
            if (field.name == attribute) return &field;
    return nullptr;
}

std::string name_of(const FilterField& field) {
    return std::string{field.name};
}

std::string fields_of(std::string_view protocol) {
    std::string out;
    if (const auto* known = find_protocol(protocol))
        for (const auto& fields : known->fields)
            for (const auto& field : fields) out += fmt::format("{}{}", out.empty() ? "" : ", ", field.name);
    return out;
}

std::string plain_value(const FilterField& field, std::string_view text) {
    switch (field.type) {
        case Type::number:
            return plain_number(field, text);
        case Type::mac:
        case Type::mac_mask:
            return plain_mac(text);
        case Type::ipv4:
        case Type::ipv6:
            return plain_ip(text, field.type == Type::ipv6);
        case Type::ipv4_mask:
        case Type::ipv6_mask:
            return plain_mask(text, field.type == Type::ipv6_mask);
        case Type::boolean:
            return plain_boolean(text);
        case Type::states:
            return plain_states(text);
        case Type::tcp_flags:
            return plain_flags(text);
        case Type::name:
            return plain_name(text);
        case Type::comment:
            return plain_comment(text);
    }
    return {};
}

bool takes_ipv4(const FilterField& field) {
    return field.type == Type::ipv4;
}

bool is_comment(const FilterField& field) {
    return field.type == Type::comment;
}

}  // namespace virtbus
