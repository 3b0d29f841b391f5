// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/networking/filter_tree.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

#include "service/networking/filter_fields.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

using Values = std::vector<std::string>;
using Variables = std::map<std::string, Values, std::less<>>;

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

bool is_word(std::string_view text) {
    return !text.empty() && text.size() <= 64 && std::ranges::all_of(text, [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    });
}

void add_parameters(Variables& variables, const std::vector<FilterParameter>& parameters) {
    for (const auto& [name, value, unknown] : parameters) {
        if (!is_word(name)) refuse(fmt::format("'{}' is no name of a parameter: it has letters, digits and '_'", name));
        auto& values = variables[name];
        if (values.size() == most_filter_values)
            refuse(fmt::format("the parameter '{}' has more than {} values", name, most_filter_values));
        values.push_back(value);
    }
}

// ---- variables in attributes

/// "$NAME", "$NAME[@iterator]" or "$NAME[element]".
struct Access {
    std::string name;
    unsigned number = 0;
    bool iterated = true;
};

Access parse_access(std::string_view text) {
    const auto bad = [&] {
        refuse(fmt::format("'{}' is no variable; it is written $NAME, $NAME[@ITERATOR] or $NAME[ELEMENT]", text));
    };
    auto rest = text.substr(1);
    Access access;
    const auto bracket = rest.find('[');
    access.name = rest.substr(0, bracket);
    if (!is_word(access.name)) bad();
    if (bracket == rest.npos) return access;
    rest.remove_prefix(bracket + 1);
    if (!rest.ends_with(']')) bad();
    rest.remove_suffix(1);
    access.iterated = rest.starts_with('@');
    if (access.iterated) rest.remove_prefix(1);
    constexpr unsigned most = 9999;
    const auto [end, fault] = std::from_chars(rest.data(), rest.data() + rest.size(), access.number);
    if (rest.empty() || fault != std::errc{} || end != rest.data() + rest.size() || access.number > most) bad();
    return access;
}

struct Slot {
    const FilterField* field = nullptr;
    const FilterAttribute* attribute = nullptr;
    std::optional<Access> access;
    const Values* values = nullptr;  ///< null: the attribute's own text, or what is learned
    bool learned = false;
};

/// Which attribute says nothing without which other.
constexpr std::pair<std::string_view, std::string_view> companions[]{
    {"srcmacmask", "srcmacaddr"},
    {"dstmacmask", "dstmacaddr"},
    {"srcipmask", "srcipaddr"},
    {"dstipmask", "dstipaddr"},
    {"arpsrcipmask", "arpsrcipaddr"},
    {"arpdstipmask", "arpdstipaddr"},
    {"srcipto", "srcipfrom"},
    {"dstipto", "dstipfrom"},
    {"srcportend", "srcportstart"},
    {"dstportend", "dstportstart"},
    {"typeend", "type"},
    {"codeend", "code"},
    {"root-priority-hi", "root-priority"},
    {"root-address-mask", "root-address"},
    {"root-cost-hi", "root-cost"},
    {"sender-priority-hi", "sender-priority"},
    {"sender-address-mask", "sender-address"},
    {"port-hi", "port"},
    {"msg-age-hi", "msg-age"},
    {"max-age-hi", "max-age"},
    {"hello-time-hi", "hello-time"},
    {"forward-delay-hi", "forward-delay"},
    {"ipsetflags", "ipset"},
};

bool is_range(std::string_view name) {
    return name.ends_with("to") || name.ends_with("end") || name.ends_with("-hi");
}

/// What several attributes have to say together.
void require_whole(const LinkRule& rule) {
    const auto& values = rule.values;
    for (const auto& [name, other] : companions) {
        const auto found = values.find(name), main = values.find(other);
        if (found == values.end()) continue;
        if (main == values.end()) refuse(fmt::format("<{}> has '{}' without '{}'", rule.protocol, name, other));
        if (found->second.learned || main->second.learned)
            refuse(fmt::format("<{}>: '{}' with an address that is learned is not served; give the parameter IP",
                               rule.protocol, name));
        if (!is_range(name) || name.ends_with("ipto")) continue;
        if (std::stoull(found->second.text) < std::stoull(main->second.text))
            refuse(fmt::format("<{}>: '{}' is less than '{}'", rule.protocol, name, other));
    }
    if (rule.protocol != "ip" && rule.protocol != "ipv6") return;
    const auto protocol = values.find("protocol");
    const auto inner = protocol == values.end() || protocol->second.negated ? "" : protocol->second.text;
    const bool ported = inner == "6" || inner == "17" || inner == "33" || inner == "132" || inner == "136";
    for (const auto* name : {"srcportstart", "dstportstart"})
        if (values.contains(name) && !ported)
            refuse(fmt::format("<{}> has '{}' without a 'protocol' that has ports (tcp, udp, sctp, udplite)",
                               rule.protocol, name));
    for (const auto* name : {"type", "code"})
        if (values.contains(name) && inner != "58")
            refuse(fmt::format("<{}> has '{}' without protocol='icmpv6'", rule.protocol, name));
}

// ---- chains

struct ChainKind {
    std::string_view prefix;
    std::int32_t priority;
};
constexpr ChainKind chain_kinds[]{{"stp", -810},  {"mac", -800}, {"vlan", -750}, {"ipv4", -700},
                                  {"ipv6", -600}, {"arp", -500}, {"rarp", -400}};

/// The usual priority of the chain; also checks its name.
std::int32_t priority_of_chain(const NetworkFilter& filter) {
    const auto& chain = filter.chain;
    constexpr std::size_t longest = 40;
    const bool harmless = chain.size() <= longest && std::ranges::all_of(chain, [](char c) {
                              return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                     c == '-' || c == '_' || c == '.';
                          });
    if (chain == "root") return 0;
    for (const auto& kind : chain_kinds)
        if (harmless && (chain == kind.prefix || chain.starts_with(std::string{kind.prefix} + "-")))
            return filter.priority.value_or(kind.priority);
    refuse(
        fmt::format("'{}' is no chain; it is root, mac, stp, vlan, arp, rarp, ipv4 or ipv6, the last seven also "
                    "with '-' and letters behind",
                    chain.substr(0, longest)));
}

// ---- the tree

class Resolver {
public:
    Resolver(const Interface& interface, const GetFilter& get) : get_{get} {
        const auto& reference = *interface.filterref;
        out_.name = reference.filter;
        out_.mac = interface.mac;
        add_parameters(given_, reference.parameters);
        given_.try_emplace("MAC", Values{interface.mac});
        const auto learning = given_.find("CTRL_IP_LEARNING");
        if (learning != given_.end()) {
            if (learning->second.size() != 1) refuse("CTRL_IP_LEARNING has more than one value");
            learning_ = learning->second.front();
            if (learning_ != "any" && learning_ != "dhcp" && learning_ != "none")
                refuse(fmt::format("CTRL_IP_LEARNING='{}' is not allowed; allowed: any, dhcp, none", learning_));
        }
    }

    LinkFilter resolve() {
        follow(out_.name, given_);
        std::vector<std::size_t> order(out_.rules.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::ranges::sort(order, {}, [this](std::size_t i) { return std::pair{out_.rules[i].priority, i}; });
        std::vector<LinkRule> sorted;
        sorted.reserve(order.size());
        for (const auto i : order) sorted.push_back(std::move(out_.rules[i]));
        out_.rules = std::move(sorted);
        return std::move(out_);
    }

private:
    void follow(const std::string& name, const Variables& variables) {
        if (std::ranges::find(path_, name) != path_.end())
            refuse(fmt::format("network filters refer to each other in a circle: {} -> {}", fmt::join(path_, " -> "),
                               name));
        if (path_.size() == deepest_filter)
            refuse(fmt::format("network filters refer to each other more than {} deep: {}", deepest_filter,
                               fmt::join(path_, " -> ")));
        if (++references_ > most_references)
            refuse(fmt::format("network filter '{}' comes to more than {} filters", out_.name, most_references));
        path_.push_back(name);
        const auto& filter = get_(name);
        std::int32_t chain_priority = 0;
        in_words([&] { chain_priority = priority_of_chain(filter); });
        for (const auto& entry : filter.entries) {
            if (const auto* rule = std::get_if<FilterRule>(&entry)) {
                in_words([&] { add(*rule, filter, chain_priority, variables); });
                continue;
            }
            const auto& reference = std::get<FilterRef>(entry);
            // What is given from outside counts more than what a filter gives to those it refers to.
            Variables below;
            in_words([&] { add_parameters(below, reference.parameters); });
            for (const auto& [key, values] : variables) below[key] = values;
            follow(reference.filter, below);
        }
        path_.pop_back();
    }

    template <class Work>
    void in_words(Work work) const {
        try {
            work();
        } catch (const Error& error) {
            refuse(fmt::format("network filter '{}': {}", fmt::join(path_, "' in '"), error.what()));
        }
    }

    // ---- rules

    void add(const FilterRule& rule, const NetworkFilter& filter, std::int32_t chain_priority,
             const Variables& variables) {
        LinkRule plain;
        plain.action = rule.action;
        plain.direction = rule.direction;
        plain.priority = rule.priority;
        plain.statematch = rule.statematch;
        plain.protocol = rule.protocol;
        plain.chain = filter.chain;
        plain.chain_priority = chain_priority;
        plain.filter = filter.name;
        std::vector<Slot> slots;
        for (const auto& attribute : rule.attributes) slots.push_back(slot_of(rule, attribute, variables));
        // By iterator, how many elements its lists have; the rule is made for each combination of them.
        std::map<unsigned, std::size_t> sizes, at;
        for (const auto& slot : slots) {
            if (!slot.values || !slot.access->iterated) continue;
            const auto [size, fresh] = sizes.emplace(slot.access->number, slot.values->size());
            if (!fresh && size->second != slot.values->size())
                refuse(fmt::format("<{} {}='{}'>: the lists that one iterator goes through are not of one length",
                                   rule.protocol, slot.attribute->name, slot.attribute->value));
        }
        for (const auto& [iterator, size] : sizes) at[iterator] = 0;
        for (;;) {
            add(plain, rule, slots, at);
            auto next = sizes.begin();
            for (; next != sizes.end(); ++next) {
                if (++at[next->first] < next->second) break;
                at[next->first] = 0;
            }
            if (next == sizes.end()) return;
        }
    }

    void add(LinkRule plain, const FilterRule& rule, const std::vector<Slot>& slots,
             const std::map<unsigned, std::size_t>& at) {
        for (const auto& slot : slots) {
            FilterValue value;
            value.negated = slot.attribute->negated;
            value.learned = slot.learned;
            const auto& text = !slot.values            ? slot.attribute->value
                               : slot.access->iterated ? (*slot.values)[at.at(slot.access->number)]
                                                       : (*slot.values)[slot.access->number];
            try {
                if (!slot.learned) value.text = plain_value(*slot.field, text);
            } catch (const Error& error) {
                refuse(fmt::format("<{} {}='{}'>: {}", rule.protocol, slot.attribute->name, slot.attribute->value,
                                   error.what()));
            }
            plain.values[name_of(*slot.field)] = std::move(value);
        }
        require_whole(plain);
        if (out_.rules.size() == most_filter_rules)
            refuse(fmt::format("network filter '{}' comes to more than {} rules", out_.name, most_filter_rules));
        out_.rules.push_back(std::move(plain));
    }

    Slot slot_of(const FilterRule& rule, const FilterAttribute& attribute, const Variables& variables) const {
        Slot slot;
        slot.attribute = &attribute;
        slot.field = find_field(rule.protocol, attribute.name);
        if (!slot.field)
            refuse(fmt::format("<{}> has no attribute '{}'; it has {}", rule.protocol, attribute.name,
                               fields_of(rule.protocol)));
        if (!attribute.value.starts_with('$') || is_comment(*slot.field)) return slot;
        slot.access = parse_access(attribute.value);
        const auto found = variables.find(slot.access->name);
        if (found == variables.end()) {
            require_learning(rule, slot);
            slot.learned = true;
            return slot;
        }
        slot.values = &found->second;
        if (!slot.access->iterated && slot.access->number >= slot.values->size())
            refuse(fmt::format("<{} {}='{}'>: the parameter has {} values only", rule.protocol, attribute.name,
                               attribute.value, slot.values->size()));
        return slot;
    }

    /// Only the IPv4 address is learned, as there is only one that a guest starts with.
    void require_learning(const FilterRule& rule, const Slot& slot) const {
        const auto where = fmt::format("<{} {}='{}'>", rule.protocol, slot.attribute->name, slot.attribute->value);
        if (slot.access->name != "IP" || !takes_ipv4(*slot.field) || (!slot.access->iterated && slot.access->number))
            refuse(
                fmt::format("{}: the variable '{}' has no value; give the interface's <filterref> a <parameter "
                            "name='{}' value=...>",
                            where, slot.access->name, slot.access->name));
        if (learning_ == "none")
            refuse(fmt::format("{}: the variable 'IP' has no value, and CTRL_IP_LEARNING='none' says not to learn it",
                               where));
        if (learning_ == "dhcp")
            refuse(
                fmt::format("{}: learning the address from DHCP alone (CTRL_IP_LEARNING='dhcp') is not served; give "
                            "the parameter 'IP', or 'any' for the first address that the guest uses",
                            where));
    }

    const GetFilter& get_;
    Variables given_;
    std::string learning_ = "any";
    LinkFilter out_;
    std::vector<std::string> path_;
    std::size_t references_ = 0;
};

}  // namespace

LinkFilter resolve_filter(const Interface& interface, const GetFilter& get) {
    return Resolver{interface, get}.resolve();
}

}  // namespace virtbus
