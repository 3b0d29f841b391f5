// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/filter_rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "network/tap.hpp"
#include "virtbus/error.hpp"
#include "virtbus/ip.hpp"

namespace virtbus::network {

namespace {

constexpr std::string_view groups_of_bridges = "01:80:c2:00:00:00";
constexpr unsigned type_ipv4 = 0x800, type_ipv6 = 0x86dd, type_arp = 0x806, type_rarp = 0x8035, type_vlan = 0x8100;

/// A name that nftables takes without quotes.
std::string plain_name(const std::string& name) {
    std::string out;
    for (const char c : name)
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.')
            out += c;
        else
            out += fmt::format("_{:02x}", static_cast<unsigned char>(c));
    return out;
}

std::string described(const LinkRule& rule) {
    return fmt::format("the rule <{}> with action '{}' of network filter '{}'",
                       rule.protocol.empty() ? "rule" : rule.protocol, word(rule.action), rule.filter);
}

bool is_deep(const LinkRule& rule) {
    constexpr std::string_view shallow[]{"", "mac", "vlan", "stp", "arp", "rarp", "ip", "ipv6"};
    return std::ranges::find(shallow, rule.protocol) == std::end(shallow);
}

/// The number of a protocol over IP; nothing for "all".
std::optional<unsigned> inner_protocol(std::string_view protocol) {
    constexpr std::pair<std::string_view, unsigned> numbers[]{{"tcp", 6},    {"udp", 17}, {"udplite", 136},
                                                              {"sctp", 132}, {"icmp", 1}, {"icmpv6", 58},
                                                              {"igmp", 2},   {"esp", 50}, {"ah", 51}};
    if (protocol.ends_with("-ipv6")) protocol.remove_suffix(5);
    for (const auto& [name, number] : numbers)
        if (protocol == name) return number;
    return std::nullopt;
}

bool over_ipv6(const LinkRule& rule) {
    return rule.protocol == "ipv6" || rule.protocol == "icmpv6" || rule.protocol.ends_with("-ipv6");
}

template <class Bytes>
Bytes masked(Bytes bytes, const Bytes& mask) {
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] &= mask[i];
    return bytes;
}

std::string mac_text(const MacAddress& mac) {
    return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

/// In the order of the network, for fields that nftables has no name for.
template <class Bytes>
std::string hex(const Bytes& bytes, std::size_t count) {
    std::string out = "0x";
    for (std::size_t i = 0; i < count; ++i) out += fmt::format("{:02x}", bytes[i]);
    return out;
}

/// Writes what one rule wants of a frame, for one way of it.
class Conditions {
public:
    /// `reversed`: what the rule says of the sender is meant of the receiver, and the other way round.
    Conditions(const LinkRule& rule, bool reversed, const std::string& known)
        : rule_{rule}, reversed_{reversed}, known_{known} {}

    std::string shallow() {
        link();
        if (rule_.protocol == "mac") number("protocolid", "ether type");
        if (rule_.protocol == "vlan") vlan();
        if (rule_.protocol == "stp") stp();
        if (rule_.protocol == "arp") arp();
        if (rule_.protocol == "rarp") rarp();
        if (rule_.protocol == "ip" || rule_.protocol == "ipv6") ip();
        return std::move(text_);
    }
    /// Up to what connection tracking says.
    std::string deep() {
        if (find("ipset"))
            throw Error{Code::unsupported,
                        fmt::format("{}: sets of ipset are unknown to nftables; write its addresses as a list of "
                                    "parameters",
                                    described(rule_))};
        link();
        type(over_ipv6(rule_) ? type_ipv6 : type_ipv4);
        if (const auto protocol = inner_protocol(rule_.protocol)) say("meta l4proto {}", *protocol);
        addresses();
        ports();
        flags();
        const std::string kind = rule_.protocol == "icmpv6" ? "icmpv6" : "icmp";
        number("type", kind + " type");
        number("code", kind + " code");
        return std::move(text_);
    }

private:
    template <class... Args>
    void say(fmt::format_string<Args...> format, Args&&... args) {
        fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
        text_ += ' ';
    }
    const FilterValue* find(std::string_view name) const {
        const auto found = rule_.values.find(name);
        return found == rule_.values.end() ? nullptr : &found->second;
    }
    void type(unsigned number) { say("ether type 0x{:04x}", number); }
    static std::string_view sign(const FilterValue& value) { return value.negated ? "!= " : ""; }
    static std::string_view relation(const FilterValue& value) { return value.negated ? "!=" : "=="; }
    std::string_view side(bool source) const { return source != reversed_ ? "saddr" : "daddr"; }

    // ---- kinds of values

    /// A number, or a range where its end is given.
    void number(std::string_view name, const std::string& field, std::string_view last = {}) {
        const auto* value = find(name);
        if (!value) return;
        const auto* end = last.empty() ? nullptr : find(last);
        if (end)
            say("{} {}{}-{}", field, sign(*value), value->text, end->text);
        else
            say("{} {}{}", field, sign(*value), value->text);
    }
    void link_address(std::string_view name, std::string_view mask_name, std::string_view field) {
        const auto* value = find(name);
        if (!value) return;
        const auto* mask = find(mask_name);
        if (!mask) return say("{} {}{}", field, sign(*value), value->text);
        const auto bits = parse_mac(mask->text);
        say("{} & {} {} {}", field, mac_text(bits), relation(*value), mac_text(masked(parse_mac(value->text), bits)));
    }
    void address(std::string_view name, std::string_view mask_name, const std::string& field) {
        const auto* value = find(name);
        if (!value) return;
        if (value->learned) return say("{} {}@{}", field, sign(*value), known_);
        const auto* mask = find(mask_name);
        if (!mask) return say("{} {}{}", field, sign(*value), value->text);
        const auto bits = Ip::parse(mask->text);
        auto ip = Ip::parse(value->text);
        if (!bits || !ip) return;
        ip->bytes = masked(ip->bytes, bits->bytes);
        say("{} & {} {} {}", field, bits->text(), relation(*value), ip->text());
    }
    void range(std::string_view from, std::string_view to, const std::string& field) {
        const auto *first = find(from), *last = find(to);
        if (!first) return;
        if (first->learned) return say("{} {}@{}", field, sign(*first), known_);
        if (!last || last->text == first->text) return say("{} {}{}", field, sign(*first), first->text);
        const auto low = Ip::parse(first->text), high = Ip::parse(last->text);
        if (low && high && *high < *low)
            throw Error{Code::unsupported_configuration, fmt::format("{}: {} to {} is no range of addresses",
                                                                     described(rule_), first->text, last->text)};
        say("{} {}{}-{}", field, sign(*first), first->text, last->text);
    }

    // ---- protocols

    void link() {
        link_address("srcmacaddr", "srcmacmask", fmt::format("ether {}", side(true)));
        link_address("dstmacaddr", "dstmacmask", fmt::format("ether {}", side(false)));
    }
    void vlan() {
        type(type_vlan);
        number("vlanid", "vlan id");
        number("encap-protocol", "vlan type");
    }
    void raw_mac(std::string_view name, std::string_view mask_name, unsigned bit, std::string_view base) {
        const auto* value = find(name);
        if (!value) return;
        const auto mac = parse_mac(value->text);
        const auto* mask = mask_name.empty() ? nullptr : find(mask_name);
        if (!mask) return say("@{},{},48 {}{}", base, bit, sign(*value), hex(mac, mac.size()));
        const auto bits = parse_mac(mask->text);
        say("@{},{},48 & {} {} {}", base, bit, hex(bits, bits.size()), relation(*value),
            hex(masked(mac, bits), mac.size()));
    }
    /// Behind the 14 bytes of the link's header: three of LLC, two of the protocol, then the version.
    void stp() {
        say("ether daddr {} @ll,112,40 0x4242030000", groups_of_bridges);
        number("type", "@ll,160,8");
        number("flags", "@ll,168,8");
        number("root-priority", "@ll,176,16", "root-priority-hi");
        raw_mac("root-address", "root-address-mask", 192, "ll");
        number("root-cost", "@ll,240,32", "root-cost-hi");
        number("sender-priority", "@ll,272,16", "sender-priority-hi");
        raw_mac("sender-address", "sender-address-mask", 288, "ll");
        number("port", "@ll,336,16", "port-hi");
        number("msg-age", "@ll,352,16", "msg-age-hi");
        number("max-age", "@ll,368,16", "max-age-hi");
        number("hello-time", "@ll,384,16", "hello-time-hi");
        number("forward-delay", "@ll,400,16", "forward-delay-hi");
    }
    void require_no_gratuitous() const {
        if (const auto* value = find("gratuitous"); value && value->text == "1")
            throw Error{Code::unsupported,
                        fmt::format("{}: nftables cannot compare the two addresses of a frame, so 'gratuitous' is not "
                                    "served",
                                    described(rule_))};
    }
    bool has_arp_addresses() const {
        constexpr const char* names[]{"arpsrcmacaddr", "arpdstmacaddr", "arpsrcipaddr", "arpdstipaddr"};
        return std::ranges::any_of(names, [this](const char* name) { return find(name) != nullptr; });
    }
    /// Addresses are where they are only when they are as long as those of Ethernet and IPv4.
    void arp() {
        require_no_gratuitous();
        type(type_arp);
        number("hwtype", "arp htype");
        number("protocoltype", "arp ptype");
        number("opcode", "arp operation");
        if (has_arp_addresses()) say("arp hlen 6 arp plen 4");
        link_address("arpsrcmacaddr", {}, fmt::format("arp {} ether", side(true)));
        link_address("arpdstmacaddr", {}, fmt::format("arp {} ether", side(false)));
        address("arpsrcipaddr", "arpsrcipmask", fmt::format("arp {} ip", side(true)));
        address("arpdstipaddr", "arpdstipmask", fmt::format("arp {} ip", side(false)));
    }
    void raw_ip(std::string_view name, std::string_view mask_name, bool source) {
        const auto* value = find(name);
        if (!value) return;
        if (value->learned)
            throw Error{Code::unsupported, fmt::format("{}: an address that is learned cannot stand in <rarp>; give "
                                                       "the parameter IP",
                                                       described(rule_))};
        constexpr std::size_t length = 4;
        const auto field = fmt::format("@nh,{},32", source != reversed_ ? 112 : 192);
        const auto ip = Ip::parse(value->text);
        if (!ip) return;
        const auto* mask = find(mask_name);
        if (!mask) return say("{} {}{}", field, sign(*value), hex(ip->bytes, length));
        const auto bits = Ip::parse(mask->text);
        if (bits)
            say("{} & {} {} {}", field, hex(bits->bytes, length), relation(*value),
                hex(masked(ip->bytes, bits->bytes), length));
    }
    /// nftables knows the fields of ARP only.
    void rarp() {
        require_no_gratuitous();
        type(type_rarp);
        number("hwtype", "@nh,0,16");
        number("protocoltype", "@nh,16,16");
        number("opcode", "@nh,48,16");
        if (has_arp_addresses()) say("@nh,32,16 0x0604");
        raw_mac("arpsrcmacaddr", {}, reversed_ ? 144 : 64, "nh");
        raw_mac("arpdstmacaddr", {}, reversed_ ? 64 : 144, "nh");
        raw_ip("arpsrcipaddr", "arpsrcipmask", true);
        raw_ip("arpdstipaddr", "arpdstipmask", false);
    }
    std::string_view family() const { return over_ipv6(rule_) ? "ip6" : "ip"; }
    void addresses() {
        address("srcipaddr", "srcipmask", fmt::format("{} {}", family(), side(true)));
        address("dstipaddr", "dstipmask", fmt::format("{} {}", family(), side(false)));
        range("srcipfrom", "srcipto", fmt::format("{} {}", family(), side(true)));
        range("dstipfrom", "dstipto", fmt::format("{} {}", family(), side(false)));
        number("dscp", fmt::format("{} dscp", family()));
    }
    void ports() {
        number("srcportstart", reversed_ ? "th dport" : "th sport", "srcportend");
        number("dstportstart", reversed_ ? "th sport" : "th dport", "dstportend");
    }
    void ip() {
        const bool v6 = over_ipv6(rule_);
        type(v6 ? type_ipv6 : type_ipv4);
        number("protocol", v6 ? "meta l4proto" : "ip protocol");
        addresses();
        ports();
        number("type", "icmpv6 type", "typeend");
        number("code", "icmpv6 code", "codeend");
    }
    void flags() {
        if (const auto* option = find("option"))
            say("tcp option {} {}", option->text, option->negated ? "missing" : "exists");
        const auto* value = find("flags");
        if (!value) return;
        const auto slash = value->text.find('/');
        const auto mask = joined(value->text.substr(0, slash)), wanted = joined(value->text.substr(slash + 1));
        if (!mask.empty())
            say("tcp flags & ({}) {} {}", mask, relation(*value), wanted.empty() ? "0x0" : "(" + wanted + ")");
    }
    static std::string joined(std::string list) {
        std::ranges::replace(list, ',', '|');
        return list;
    }

    const LinkRule& rule_;
    const bool reversed_;
    const std::string& known_;
    std::string text_;
};

/// REJECT has no answer to give to a frame on a bridge, and libvirt's ebtables rules drop it, too.
std::string_view verdict(FilterAction action) {
    switch (action) {
        case FilterAction::accept:
            return "accept";
        case FilterAction::back:
            return "return";
        case FilterAction::next:
            return "continue";
        case FilterAction::drop:
        case FilterAction::reject:
            break;
    }
    return "drop";
}

std::string comment_of(const LinkRule& rule) {
    const auto found = rule.values.find("comment");
    if (found == rule.values.end()) return {};
    constexpr std::size_t longest = 120;
    std::string text;
    for (const char c : found->second.text.substr(0, longest))
        text += c >= ' ' && c < 0x7f && c != '"' && c != '\\' ? c : '_';
    return text.empty() ? text : fmt::format(" comment \"{}\"", text);
}

class Writer {
public:
    Writer(const LinkFilter& filter, int index, const std::string& device)
        : filter_{filter},
          stem_{fmt::format("-{}-{}", index, plain_name(device))},
          known_{fmt::format("known4-{}", index)} {
        out_.index = index;
    }

    FilterRules write() {
        for (const auto& way : filter_ways) {
            out_.chains.push_back(std::string{way.chain} + stem_);
            body(out_.chains.back());
        }
        for (const auto& way : filter_ways)
            if (!way.deep) write_shallow(way);
        for (const auto& rule : filter_.rules)
            if (is_deep(rule)) write_deep(rule);
        finish();
        return std::move(out_);
    }

private:
    struct Jump {
        std::string chain, text;
    };

    std::string& body(const std::string& chain) { return bodies_[chain]; }
    static void line(std::string& body, std::string_view text) {
        body += '\t';
        body += text;
        body += '\n';
    }

    // ---- the first layer

    static bool applies(const LinkRule& rule, const FilterWay& way) {
        return rule.direction == FilterDirection::inout || (rule.direction == FilterDirection::out) == way.out;
    }
    void write_shallow(const FilterWay& way) {
        const auto root = std::string{way.chain} + stem_;
        // Chains below the root are visited in the order of their priorities, among the root's own rules.
        std::map<std::string, std::int32_t> priorities;
        for (const auto& rule : filter_.rules)
            if (!is_deep(rule) && applies(rule, way) && rule.chain != "root")
                priorities[rule.chain] = rule.chain_priority;
        std::vector<std::pair<std::int32_t, std::string>> jumps;
        for (const auto& [chain, priority] : priorities) jumps.emplace_back(priority, chain);
        std::ranges::sort(jumps);
        for (const auto& [priority, chain] : jumps) {
            out_.chains.push_back(below(root, chain));
            body(out_.chains.back());
        }
        auto next = jumps.begin();
        for (const auto& rule : filter_.rules) {
            if (is_deep(rule) || !applies(rule, way)) continue;
            if (rule.chain == "root")
                for (; next != jumps.end() && next->first <= rule.priority; ++next) jump(root, next->second);
            const bool reversed = way.out && rule.direction == FilterDirection::inout;
            line(body(rule.chain == "root" ? root : below(root, rule.chain)),
                 Conditions{rule, reversed, known_}.shallow() + std::string{verdict(rule.action)} + comment_of(rule));
        }
        for (; next != jumps.end(); ++next) jump(root, next->second);
    }
    static std::string below(const std::string& root, const std::string& chain) {
        return root + "/" + plain_name(chain);
    }
    void jump(const std::string& root, const std::string& chain) {
        constexpr std::pair<std::string_view, unsigned> types[]{
            {"vlan", type_vlan}, {"arp", type_arp}, {"rarp", type_rarp}, {"ipv4", type_ipv4}, {"ipv6", type_ipv6}};
        const auto prefix = chain.substr(0, chain.find('-'));
        std::string condition = prefix == "stp" ? fmt::format("ether daddr {} ", groups_of_bridges) : "";
        for (const auto& [name, type] : types)
            if (prefix == name) condition = fmt::format("ether type 0x{:04x} ", type);
        line(body(root), fmt::format("{}jump {}", condition, below(root, chain)));
    }

    // ---- the second layer

    std::string& deep_body(bool out) {
        for (const auto& way : filter_ways)
            if (way.deep && way.out == out) return body(std::string{way.chain} + stem_);
        return body({});
    }
    void track(const LinkRule& rule) {
        if (out_.tracked.empty()) out_.tracked = described(rule);
    }
    static bool has(const LinkRule& rule, std::string_view name) { return rule.values.find(name) != rule.values.end(); }

    /// What connection tracking has to say of the frame, for a frame of the rule's own direction or of its answers.
    std::string tracking(const LinkRule& rule, bool answer) {
        if (rule.statematch && has(rule, "state")) {
            track(rule);
            const auto& state = rule.values.find("state")->second;
            return fmt::format("ct state {}{} ", state.negated ? "!= " : "", state.text);
        }
        const auto limit = rule.values.find("connlimit-above");
        if (limit != rule.values.end()) {
            track(rule);
            return fmt::format("ct count {}{} ", limit->second.negated ? "" : "over ", limit->second.text);
        }
        const bool counts =
            rule.statematch && rule.direction != FilterDirection::inout && rule.action == FilterAction::accept;
        if (!counts) return {};
        track(rule);
        std::string text = answer ? "ct state established " : "ct state new,established ";
        if (!has(rule, "type")) text += answer ? "ct direction reply " : "ct direction original ";
        return text;
    }
    void write_deep(const LinkRule& rule) {
        const bool both = rule.direction == FilterDirection::inout;
        const bool states = rule.statematch && has(rule, "state");
        for (const bool out : {true, false}) {
            const bool answer = !both && out != (rule.direction == FilterDirection::out);
            const bool reversed = both ? out : answer;
            if (answer && (states || has(rule, "type"))) continue;
            if (reversed && has(rule, "connlimit-above")) continue;
            line(deep_body(out), Conditions{rule, reversed, known_}.deep() + tracking(rule, answer) +
                                     std::string{verdict(rule.action)} + comment_of(rule));
        }
    }

    // ---- the end

    bool learns() const {
        return std::ranges::any_of(filter_.rules, [](const LinkRule& rule) {
            return std::ranges::any_of(rule.values, [](const auto& each) { return each.second.learned; });
        });
    }
    /// The first address that the guest uses is its own: the set has room for one, and what does not fit goes on to the
    /// next rule. Learned before anything is refused, from what the guest sends under its own MAC address.
    std::string learning() const {
        const auto& mac = filter_.mac;
        return fmt::format(
            "\tether saddr {0} ether type 0x0806 arp hlen 6 arp plen 4 arp operation 1-2 arp saddr ether "
            "{0} arp saddr ip != 0.0.0.0 arp saddr ip < 224.0.0.0 add @{1} {{ arp saddr ip }}\n"
            "\tether saddr {0} ether type 0x0800 ip saddr != 0.0.0.0 ip saddr < 224.0.0.0 add @{1} {{ ip "
            "saddr }}\n",
            mac, known_);
    }
    void finish() {
        const bool learning_some = learns();
        if (learning_some) {
            out_.sets.push_back(known_);
            out_.text += fmt::format("set {} {{ type ipv4_addr; size 1; flags dynamic; }}\n", known_);
        }
        const auto& first = out_.chains.front();
        // Chains that others jump to come first.
        for (auto chain = out_.chains.rbegin(); chain != out_.chains.rend(); ++chain)
            out_.text += fmt::format("chain {} {{\n{}{}}}\n", *chain,
                                     learning_some && *chain == first ? learning() : "", body(*chain));
    }

    const LinkFilter& filter_;
    const std::string stem_, known_;
    std::map<std::string, std::string> bodies_;
    FilterRules out_;
};

}  // namespace

FilterRules filter_rules(const LinkFilter& filter, int index, const std::string& device) {
    return Writer{filter, index, device}.write();
}

}  // namespace virtbus::network
