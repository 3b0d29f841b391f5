// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/filter_xml.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "service/xml/binding.hpp"
#include "service/xml/document.hpp"
#include "service/xml/tables.hpp"
#include "service/xml/values.hpp"
#include "virtbus/error.hpp"

namespace virtbus::xml {

namespace {

constexpr std::array<const char*, 24> protocols{
    "mac",    "vlan",     "stp",      "arp",          "rarp",      "ip",       "ipv6",    "tcp",
    "udp",    "udplite",  "sctp",     "icmp",         "igmp",      "esp",      "ah",      "all",
    "icmpv6", "tcp-ipv6", "udp-ipv6", "udplite-ipv6", "sctp-ipv6", "esp-ipv6", "ah-ipv6", "all-ipv6"};

/// One element of a protocol; its attributes are those that no row knows.
struct Match {
    const char* protocol = nullptr;
    std::optional<bool> match;
    Unknown unknown;
};

/// A <rule> or a <filterref>: both in one list, so that their order is kept.
struct Entry {
    std::optional<FilterAction> action;
    FilterDirection direction = FilterDirection::inout;
    std::int32_t priority = usual_rule_priority;
    std::string statematch;
    std::vector<Match> matches;
    FilterRef reference;
    Unknown unknown;
};

struct Filter {
    std::string name, uuid, chain;
    std::optional<std::int32_t> priority;
    std::vector<Entry> entries;
    Unknown unknown;
};

constexpr Row match_rows[]{attribute<&Match::match>("match").yes_no()};
constinit const Table match_table = table<Match>(match_rows);

template <std::size_t I>
void* add_match(void* member) {
    auto& matches = *static_cast<std::vector<Match>*>(member);
    matches.emplace_back().protocol = protocols[I];
    return &matches.back();
}
template <std::size_t I>
constexpr Count count_of{add_match<I>, detail::Counter<std::vector<Match>>::size,
                         detail::Counter<std::vector<Match>>::at, true};

constexpr std::size_t own_rows = 4;
template <std::size_t... I>
constexpr auto rows_of_rule(std::index_sequence<I...>) {
    return std::array<Row, own_rows + sizeof...(I)>{
        attribute<&Entry::action>("action").required(), attribute<&Entry::direction>("direction").required(),
        attribute<&Entry::priority>("priority").range(-1000, 1000),
        attribute<&Entry::statematch>("statematch").one_of("0|1|false|true"),
        element<&Entry::matches>(protocols[I], match_table).with([](Row& row) { row.count = &count_of<I>; })...};
}
constexpr auto rule_rows = rows_of_rule(std::make_index_sequence<protocols.size()>());
constinit const Table rule_table = table<Entry>(rule_rows);

/// A <filterref> among the rules.
void* add_reference(void* member) {
    return &static_cast<std::vector<Entry>*>(member)->emplace_back().reference;
}
constexpr Count reference_count{add_reference, detail::Counter<std::vector<Entry>>::size,
                                detail::Counter<std::vector<Entry>>::at, true};

constexpr Row filter_rows[]{
    attribute<&Filter::name>("name").required(),
    attribute<&Filter::chain>("chain"),
    attribute<&Filter::priority>("priority").range(-1000, 1000),
    leaf<&Filter::uuid>("uuid").uuid(),
    element<&Filter::entries>("rule", rule_table),
    element<&Filter::entries>("filterref", filterref_table).with([](Row& row) { row.count = &reference_count; }),
};
constinit const Table filter_table = table<Filter>(filter_rows);

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
    throw Error{Code::invalid_xml, fmt::format("filter '{}': {}", name, why)};
}

/// Attributes are collected over all elements of the rule, which are of one protocol.
FilterRule rule_of(const std::string& name, const Entry& entry) {
    FilterRule rule;
    rule.action = *entry.action;
    rule.direction = entry.direction;
    rule.priority = entry.priority;
    rule.statematch = entry.statematch != "0" && entry.statematch != "false";
    for (const auto& item : entry.unknown.items())
        if (item.kind == UnknownItem::Kind::element && !item.name.empty())
            refuse(name, fmt::format("a <rule> has the element <{}>, which is no protocol that is known", item.name));
    for (const auto& match : entry.matches) {
        if (!rule.protocol.empty() && rule.protocol != match.protocol)
            refuse(name, fmt::format("a <rule> has both <{}> and <{}>; it can be for one protocol only", rule.protocol,
                                     match.protocol));
        rule.protocol = match.protocol;
        for (const auto& item : match.unknown.items()) {
            if (item.kind != UnknownItem::Kind::attribute || item.name.find(':') != item.name.npos) continue;
            if (std::ranges::find(rule.attributes, item.name, &FilterAttribute::name) != rule.attributes.end())
                refuse(name, fmt::format("a <rule> gives '{}' of <{}> twice", item.name, match.protocol));
            rule.attributes.push_back({item.name, item.text, match.match == false});
        }
    }
    return rule;
}

}  // namespace

NetworkFilter parse_filter(std::string_view xml) {
    const Document document{xml, {.bytes = largest_filter, .depth = 8, .elements = 20'000}};
    Filter filter;
    std::vector<std::string> passed_over;
    read(filter_table, document.require_root("filter"), &filter, passed_over);
    NetworkFilter result;
    result.name = std::move(filter.name);
    result.uuid = std::move(filter.uuid);
    if (!filter.chain.empty()) result.chain = std::move(filter.chain);
    result.priority = filter.priority;
    for (auto& entry : filter.entries)
        if (entry.action)
            result.entries.emplace_back(rule_of(result.name, entry));
        else
            result.entries.emplace_back(std::move(entry.reference));
    return result;
}

}  // namespace virtbus::xml
