// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

constexpr std::string_view refusal = "reject with icmpx admin-prohibited";
const PortRange usual_ports{.start = 1024, .end = 65535};

/// In quotes, where nothing of it has a meaning of its own.
std::string quoted(const std::string& device) {
    const auto harmless = [](char c) { return c > ' ' && c < 0x7f && c != '"' && c != '\\' && c != '*' && c != '/'; };
    if (device.empty() || !std::ranges::all_of(device, harmless))
        throw Error{Code::invalid_xml,
                    fmt::format("'{}' cannot be the name of a network device here: it has visible ASCII characters "
                                "without '\"', '*', '/' and '\\'",
                                device)};
    return fmt::format("\"{}\"", device);
}

class Writer {
public:
    explicit Writer(const NetworkConfig& config)
        : mode_{forward_mode(config)}, bridge_{config.bridge ? config.bridge->name : ""}, own_{quoted(bridge_)} {
        ipv6_ = config.ipv6.value_or(false);
        for (const auto& ip : config.ips) add_range(net_of(ip));
        if (!config.forward) return;
        const auto& forward = *config.forward;
        device_ = !forward.dev.empty()         ? quoted(forward.dev)
                  : forward.interfaces.empty() ? ""
                                               : quoted(forward.interfaces.front().dev);
        if (forward.nat) nat_ = *forward.nat;
    }

    std::string text() {
        open(rule_kinds[0]);
        write_out();
        close();
        open(rule_kinds[1]);
        write_in();
        close();
        open(rule_kinds[2]);
        if (mode_ == ForwardMode::nat) write_nat();
        close();
        return std::move(text_);
    }

private:
    /// One that is within another adds nothing.
    void add_range(const IpNet& net) {
        const auto range = net.network();
        ipv6_ |= range.address.v6;
        const auto within = [](const IpNet& small, const IpNet& large) {
            return small.prefix >= large.prefix && large.contains(small.address);
        };
        if (std::ranges::any_of(ranges_, [&](const IpNet& other) { return within(range, other); })) return;
        std::erase_if(ranges_, [&](const IpNet& other) { return within(other, range); });
        ranges_.push_back(range);
    }
    bool is_translated(const IpNet& range) const {
        return mode_ == ForwardMode::nat && (!range.address.v6 || nat_.ipv6.value_or(false));
    }
    static std::string_view family(const Ip& address) { return address.v6 ? "ip6" : "ip"; }

    void open(const RuleKind& kind) { text_ += fmt::format("chain {} {{\n", chain_of(kind, bridge_)); }
    void close() { text_ += "}\n"; }
    template <class... Args>
    void rule(fmt::format_string<Args...> format, Args&&... args) {
        text_ += '\t';
        fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
        text_ += '\n';
    }

    /// Bridged frames come by here where br_netfilter is on.
    void between_guests(std::string_view other_side) {
        rule("{}{} {} return", ipv6_ ? "" : "meta nfproto ipv4 ", other_side, own_);
    }
    /// Only with the network's own addresses, and only to where the definition says.
    void write_out() {
        between_guests("oifname");
        if (mode_ != ForwardMode::none)
            for (const auto& range : ranges_)
                rule("{} saddr {}{} return", family(range.address), range.text(), by("oifname"));
        rule("{}", refusal);
    }
    void write_in() {
        between_guests("iifname");
        if (mode_ != ForwardMode::none)
            for (const auto& range : ranges_)
                rule("{} daddr {}{}{} return", family(range.address), range.text(), by("iifname"),
                     is_translated(range) ? " ct state established,related" : "");
        rule("{}", refusal);
    }
    std::string by(std::string_view side) const { return device_.empty() ? "" : fmt::format(" {} {}", side, device_); }

    /// What stays within the network or on the link keeps its address.
    void write_nat() {
        for (const bool v6 : {false, true}) {
            const auto counts = [&](const IpNet& range) { return range.address.v6 == v6 && is_translated(range); };
            if (std::ranges::none_of(ranges_, counts)) continue;
            for (const auto* group : {"224.0.0.0/24", "255.255.255.255"})
                if (!v6) rule("ip daddr {} return", group);
            if (v6) rule("ip6 daddr ff02::/16 return");
            for (const auto& range : ranges_)
                if (counts(range)) rule("{} daddr {} return", family(range.address), range.text());
            for (const auto& range : ranges_)
                if (counts(range)) translate(range);
        }
    }
    void translate(const IpNet& range) {
        const auto from = fmt::format("{} saddr {}", family(range.address), range.text());
        const auto& asked = nat_.port ? *nat_.port : usual_ports;
        const auto ports = fmt::format(":{}-{}", asked.start, asked.end);
        const auto to = addresses_for(range);
        const auto how =
            to.empty() ? std::string{"masquerade"} : fmt::format("snat {} to {}", family(range.address), to);
        rule("{} meta l4proto {{ tcp, udp }} {}{}{}", from, how, to.empty() ? " to " : "", ports);
        rule("{} {}", from, how);
    }
    /// "" where the address of the outgoing device is taken.
    std::string addresses_for(const IpNet& range) const {
        if (!nat_.address) return {};
        const auto start = Ip::parse(nat_.address->start), end = Ip::parse(nat_.address->end);
        if (!start || !end || start->v6 != end->v6)
            throw Error{Code::invalid_xml, fmt::format("<nat>: '{}' to '{}' is no range of addresses",
                                                       nat_.address->start, nat_.address->end)};
        if (start->v6 != range.address.v6) return {};
        const auto text = [](const Ip& ip) { return ip.v6 ? fmt::format("[{}]", ip.text()) : ip.text(); };
        return *start == *end ? text(*start) : fmt::format("{}-{}", text(*start), text(*end));
    }

    ForwardMode mode_;
    std::string bridge_, own_;
    std::string device_;  ///< in quotes; "" = any
    bool ipv6_ = false;
    std::vector<IpNet> ranges_;
    NetworkNat nat_;
    std::string text_;
};

bool is_name_character(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

}  // namespace

std::string chain_of(const RuleKind& kind, const std::string& bridge) {
    auto name = fmt::format("{}_", kind.chain);
    for (const char c : bridge)
        if (is_name_character(c))
            name += c;
        else
            name += fmt::format("_{:02x}", static_cast<unsigned char>(c));
    return name;
}

NetworkRules rules_of(const NetworkConfig& config) {
    const auto mode = forward_mode(config);
    NetworkRules rules;
    if (config.bridge) rules.bridge = config.bridge->name;
    if (is_virtual(mode) && mode != ForwardMode::open) rules.text = Writer{config}.text();
    return rules;
}

}  // namespace virtbus::network
