// SPDX-License-Identifier: LGPL-2.1-or-later
// Names and records that are given to guests: they go into servers' configurations and must stay in their place there.
#include <algorithm>
#include <array>
#include <set>

#include "service/xml/network_rules.hpp"

namespace virtbus::xml {

namespace {

constexpr std::size_t longest_dns_name = 253, longest_label = 63, longest_text = 255, longest_option = 1024,
                      longest_device = 15;

bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_name_character(char c) {
    return is_letter(c) || is_digit(c) || c == '-' || c == '_';
}
bool is_control(char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}
bool has_control(std::string_view text) {
    return std::any_of(text.begin(), text.end(), is_control);
}

bool is_label(std::string_view label) {
    return !label.empty() && label.size() <= longest_label && label.front() != '-' && label.back() != '-' &&
           std::all_of(label.begin(), label.end(), is_name_character);
}

bool is_dns_name(std::string_view name) {
    if (name.empty() || name.size() > longest_dns_name) return false;
    while (true) {
        const auto dot = name.find('.');
        if (!is_label(name.substr(0, dot))) return false;
        if (dot == name.npos) return true;
        name.remove_prefix(dot + 1);
    }
}

/// As much of a hostile text as a message should have, without line breaks.
std::string shown(std::string_view text) {
    constexpr std::size_t most = 80;
    std::string part{text.substr(0, most)};
    std::replace_if(part.begin(), part.end(), is_control, '?');
    return text.size() > most ? part + "..." : part;
}

void check_record_text(std::string_view what, std::string_view text) {
    if (text.size() > longest_text)
        broken_network("{}: {} bytes are too many; at most {} are allowed", what, text.size(), longest_text);
    if (has_control(text) || text.find_first_of("\"\\") != text.npos)
        broken_network("{}='{}': quotes, backslashes and line breaks are not allowed", what, shown(text));
}

void check_service(const DnsSrv& service) {
    if (!is_label(service.service))
        broken_network("<srv>: service='{}' is not allowed; it is a word of letters, digits, '-' and '_'",
                       shown(service.service));
    if (service.protocol != "tcp" && service.protocol != "udp")
        broken_network("<srv>: protocol='{}' is not allowed; allowed: tcp, udp", shown(service.protocol));
    if (!service.domain.empty()) require_dns_name("<srv> domain", service.domain);
    if (!service.target.empty() && service.target != ".") require_dns_name("<srv> target", service.target);
    if (service.target.empty() && (service.port || service.priority || service.weight))
        broken_network("<srv service='{}'>: port, priority and weight need a target", service.service);
}

void check_dns_hosts(const NetworkDns& dns) {
    std::set<Ip> addresses;
    for (const auto& host : dns.hosts) {
        const auto ip = require_address("<dns><host> ip", host.ip);
        if (!addresses.insert(ip).second)
            broken_network("<dns>: <host ip='{}'> occurs twice; one of them can have all the hostnames", host.ip);
        if (host.hostnames.empty()) broken_network("<dns>: <host ip='{}'> has no <hostname>", host.ip);
        std::set<std::string_view> names;
        for (const auto& name : host.hostnames) {
            require_dns_name("<dns><host><hostname>", name);
            if (!names.insert(name).second)
                broken_network("<dns>: <host ip='{}'> has the hostname '{}' twice", host.ip, name);
        }
    }
}

void check_dns(const NetworkDns& dns) {
    const bool has_records =
        !dns.forwarders.empty() || !dns.texts.empty() || !dns.hosts.empty() || !dns.services.empty();
    if (!dns.enable.value_or(true) && (has_records || dns.forward_plain_names))
        broken_network("<dns enable='no'> has records or forwarding, which need a DNS server");
    for (const auto& forwarder : dns.forwarders) {
        if (!forwarder.domain.empty()) require_dns_name("<forwarder> domain", forwarder.domain);
        if (!forwarder.address.empty()) require_address("<forwarder> addr", forwarder.address);
    }
    std::set<std::string_view> names;
    for (const auto& text : dns.texts) {
        require_dns_name("<txt> name", text.name);
        check_record_text("<txt> value", text.value);
        if (!names.insert(text.name).second) broken_network("<dns>: <txt name='{}'> occurs twice", text.name);
    }
    for (const auto& service : dns.services) check_service(service);
    check_dns_hosts(dns);
}

}  // namespace

Ip require_address(std::string_view what, std::string_view text) {
    const auto ip = Ip::parse(text);
    if (!ip) broken_network("{}='{}' is not an IP address", what, shown(text));
    return *ip;
}

void require_dns_name(std::string_view what, std::string_view name) {
    if (!is_dns_name(name))
        broken_network(
            "{}='{}' is not a DNS name; allowed are letters, digits, '-' and '_' between dots, at most {} "
            "bytes a part and {} in all",
            what, shown(name), longest_label, longest_dns_name);
}

void require_client_name(std::string_view what, std::string_view name) {
    constexpr std::array<std::string_view, 4> words{"ignore", "infinite", "deprecated", "constructor"};
    const bool is_word = std::find(words.begin(), words.end(), name) != words.end();
    if (!is_dns_name(name) || !is_letter(name.front()) || is_word)
        broken_network(
            "{}='{}' is not a host's name; allowed are letters, digits, '-', '_' and dots, beginning with a "
            "letter{}",
            what, shown(name), is_word ? "; the DHCP server takes this word for something else" : "");
}

void require_plain(std::string_view what, std::string_view text) {
    check_record_text(what, text);
    if (text.find_first_of(",#") != text.npos)
        broken_network("{}='{}': commas and '#' are not allowed", what, shown(text));
}

void require_device_name(std::string_view what, std::string_view name) {
    constexpr std::array<std::string_view, 5> taken{".", "..", "all", "default", "lo"};
    const bool good = !name.empty() && name.size() <= longest_device && !has_control(name) &&
                      name.find_first_of("/:%\"'\\ ") == name.npos &&
                      std::find(taken.begin(), taken.end(), name) == taken.end();
    if (!good)
        broken_network(
            "{}='{}' is not a device's name; it has 1 to {} bytes, no blanks, '/', ':', '%', quotes or "
            "backslashes, and is none of: {}",
            what, shown(name), longest_device, fmt::join(taken, ", "));
}

void check_names(const NetworkConfig& config) {
    if (config.domain) require_dns_name("<domain> name", config.domain->name);
    if (config.dns) check_dns(*config.dns);
    for (const auto& option : config.dnsmasq_options) {
        if (option.empty() || option.size() > longest_option || has_control(option))
            broken_network("<dnsmasq:option value='{}'> is not one line of 1 to {} bytes", shown(option),
                           longest_option);
    }
}

}  // namespace virtbus::xml
