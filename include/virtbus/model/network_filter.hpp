// SPDX-License-Identifier: LGPL-2.1-or-later
// libvirt's <filter>: what the frames of an interface may be, as it is written, with variables still in it. What its
// words are worth is service/networking/filter_fields.hpp's knowledge; what it comes to for one interface, with plain
// values, is a LinkFilter, which drivers see.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "virtbus/model/interface.hpp"

namespace virtbus {

enum class FilterAction { accept, drop, reject, back, next };
template <>
struct Words<FilterAction> {
    static constexpr std::array<std::string_view, 5> list{"accept", "drop", "reject", "return", "continue"};
};

/// As the guest sees it: `out` is what it sends.
enum class FilterDirection { in, out, inout };
template <>
struct Words<FilterDirection> {
    static constexpr std::array<std::string_view, 3> list{"in", "out", "inout"};
};

inline constexpr std::int32_t usual_rule_priority = 500;

struct FilterAttribute {
    std::string name, value;
    bool negated = false;  ///< match='no'
    bool operator==(const FilterAttribute&) const = default;
};

struct FilterRule {
    FilterAction action = FilterAction::drop;
    FilterDirection direction = FilterDirection::inout;
    std::int32_t priority = usual_rule_priority;
    bool statematch = true;
    std::string protocol;  ///< "arp", "tcp-ipv6"; "" = every frame that comes by
    std::vector<FilterAttribute> attributes;
    bool operator==(const FilterRule&) const = default;
};

struct NetworkFilter {
    std::string name, uuid;
    std::string chain = "root";
    std::optional<std::int32_t> priority;                      ///< of the chain
    std::vector<std::variant<FilterRule, FilterRef>> entries;  ///< in the order of the text
    bool operator==(const NetworkFilter&) const = default;
};

// ---- what it comes to for an interface

struct FilterValue {
    std::string text;  ///< plain: "10.0.0.1", "52:54:00:00:00:01", "67"
    bool negated = false;
    bool learned = false;  ///< instead of the text, the IPv4 address that the guest is seen to use
    bool operator==(const FilterValue&) const = default;
};

struct LinkRule {
    FilterAction action = FilterAction::drop;
    FilterDirection direction = FilterDirection::inout;
    std::int32_t priority = usual_rule_priority;
    bool statematch = true;
    std::string protocol;                                    ///< as in FilterRule
    std::map<std::string, FilterValue, std::less<>> values;  ///< by the attribute's name
    std::string chain = "root";
    std::int32_t chain_priority = 0;
    std::string filter;  ///< where it is written, for messages
    bool operator==(const LinkRule&) const = default;
};

/// Sorted by priority; rules of the same one in the order of the text.
struct LinkFilter {
    std::string name;  ///< of the <filterref>
    std::string mac;   ///< the interface's
    std::vector<LinkRule> rules;
    bool operator==(const LinkFilter&) const = default;
};

}  // namespace virtbus
