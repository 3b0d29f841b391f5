// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/dnsmasq_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "network/dnsmasq_words.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

constexpr std::uint64_t most_leases = 65536;
constexpr unsigned autoconf_prefix = 64;  // of networks whose guests make their own addresses

bool gives_addresses(const NetworkIp& ip) {
    return ip.dhcp && (!ip.dhcp->ranges.empty() || !ip.dhcp->hosts.empty());
}

Ip netmask_of(unsigned prefix) {
    Ip mask;
    for (unsigned bit = 0; bit < prefix && bit < 32; ++bit)
        mask.bytes[bit / 8] = static_cast<std::uint8_t>(mask.bytes[bit / 8] | 0x80U >> bit % 8);
    return mask;
}

std::string bracketed(const Ip& ip) {
    return ip.v6 ? "[" + ip.text() + "]" : ip.text();
}

/// Builds the main file, section by section.
class Config {
public:
    Config(const NetworkConfig& network, const std::string& folder, const std::string& user)
        : network_{network}, words_{network.name}, folder_{folder}, user_{user} {}

    std::string text() {
        line("# Made by virtbus for one network; changes are lost.");
        process();
        if (network_.domain) domain(*network_.domain);
        if (answers_names(network_))
            names();
        else
            line("port=0");
        isolation();
        for (const auto& ip : network_.ips) addresses(ip);
        if (v4_) line("dhcp-no-override\ndhcp-authoritative");
        if (v4_ || v6_) {
            line("dhcp-lease-max={}", std::min(leases_, most_leases));
            line("dhcp-hostsfile={}{}", folder_, dnsmasq_place::leases);
        }
        if (v6_) line("enable-ra");
        if (v4_ && network_.mtu) line("dhcp-option=option:mtu,{}", *network_.mtu);
        for (const auto& option : network_.dnsmasq_options) line("{}", words_.option(option));
        return std::move(text_);
    }

private:
    template <class... Args>
    void line(fmt::format_string<Args...> form, Args&&... args) {
        fmt::format_to(std::back_inserter(text_), form, std::forward<Args>(args)...);
        text_ += '\n';
    }

    void process() {
        line("strict-order");
        if (!user_.empty()) line("user={}", user_);
        line("pid-file={}{}", folder_, dnsmasq_place::pid_file);
        line("dhcp-leasefile={}{}", folder_, dnsmasq_place::lease_file);
        line("except-interface=lo");
        line("bind-dynamic");
        line("interface={}", words_.device(network_.bridge ? network_.bridge->name : "", "the name of its bridge"));
    }

    void domain(const NetworkDomainName& domain) {
        const auto name = words_.host_name(domain.name, "its domain");
        // A host that asks this server for the domain must not be asked for it in turn.
        if (domain.local_only.value_or(false) || domain.register_.value_or(false)) line("local=/{}/", name);
        line("domain={}", name);
        line("expand-hosts");
    }

    void names() {
        if (!network_.dns) {
            line("addn-hosts={}{}", folder_, dnsmasq_place::hosts);
            return;
        }
        const auto& dns = *network_.dns;
        if (!dns.forward_plain_names.value_or(true)) line("domain-needed\nlocal=//");
        for (const auto& forwarder : dns.forwarders) forward(forwarder);
        for (const auto& txt : dns.texts)
            line("txt-record={},{}", words_.host_name(txt.name, "the name of a TXT record"),
                 words_.quoted_text(txt.value, "the value of a TXT record"));
        for (const auto& service : dns.services) serve(service);
        line("addn-hosts={}{}", folder_, dnsmasq_place::hosts);
    }

    void forward(const DnsForwarder& to) {
        if (to.domain.empty() && to.address.empty())
            words_.refuse("a DNS forwarder", "", "has neither domain nor address");
        if (to.domain.empty()) no_resolv_ = true;
        // '#' is whom the host asks.
        line("server={}{}",
             to.domain.empty() ? "" : "/" + words_.host_name(to.domain, "the domain of a DNS forwarder") + "/",
             to.address.empty() ? "#" : words_.address(to.address, "the address of a DNS forwarder").text());
    }

    void serve(const DnsSrv& srv) {
        auto text = fmt::format("srv-host=_{}._{}", words_.host_name(srv.service, "the service of an SRV record"),
                                words_.host_name(srv.protocol, "the protocol of an SRV record"));
        if (!srv.domain.empty()) text += "." + words_.host_name(srv.domain, "the domain of an SRV record");
        if (!srv.target.empty()) text += "," + words_.host_name(srv.target, "the target of an SRV record");
        // What comes by its position needs all that stands before it.
        if (!srv.target.empty() && (srv.port || srv.priority || srv.weight))
            text += fmt::format(",{},{},{}", srv.port.value_or(1), srv.priority.value_or(0), srv.weight.value_or(0));
        line("{}", text);
    }

    /// An isolated network has no way out: guests get no route to the host, and their questions about names are not
    /// carried outside either.
    void isolation() {
        const bool isolated = forward_mode(network_) == ForwardMode::none;
        if (isolated) line("dhcp-option=3");
        if (isolated || no_resolv_) line("no-resolv");
        if (isolated) line("ra-param=*,0,0");
    }

    void addresses(const NetworkIp& ip) {
        const auto net = net_of(ip);
        if (ip.local_ptr.value_or(false)) reverse(net);
        if (gives_addresses(ip))
            leases(ip, net);
        else if (net.address.v6 && net.prefix == autoconf_prefix)
            line("dhcp-range={},ra-only", net.address.text());
        if (!ip.tftp_root.empty()) line("enable-tftp\ntftp-root={}", words_.quoted(ip.tftp_root, "the TFTP root"));
        if (!ip.dhcp || !ip.dhcp->bootp || ip.dhcp->bootp->file.empty()) return;
        const auto& boot = *ip.dhcp->bootp;
        const auto server = boot.server.empty() ? "" : ",," + words_.host_name(boot.server, "the boot server");
        line("dhcp-boot={}{}", words_.quoted(boot.file, "the boot file"), server);
    }

    void leases(const NetworkIp& ip, const IpNet& net) {
        const bool v6 = net.address.v6;
        (v6 ? v6_ : v4_) = true;
        // Hosts may have addresses outside of the ranges, and come and go without a new process.
        leases_ += std::min(count_between(net.network().address, net.last()), most_leases);
        if (v6 && net.prefix < autoconf_prefix)
            throw Error{
                Code::unsupported_configuration,
                fmt::format("Network '{}': DHCP for {} needs a prefix of 64 or more", network_.name, net.text())};
        const auto size = v6 ? std::to_string(net.prefix) : netmask_of(net.prefix).text();
        if (ip.dhcp->ranges.empty()) line("dhcp-range={},static,{}", net.address.text(), size);
        for (const auto& range : ip.dhcp->ranges) {
            const auto first = words_.address(range.start, "the start of a DHCP range");
            const auto last = words_.address(range.end, "the end of a DHCP range");
            const auto time = words_.lease_time(range.lease);
            line("dhcp-range={},{},{}{}{}", first.text(), last.text(), size, time.empty() ? "" : ",", time);
        }
    }

    /// Questions for names of these addresses are answered here or not at all.
    void reverse(const IpNet& net) {
        const unsigned step = net.address.v6 ? 4 : 8;
        if (net.prefix % step != 0 || net.prefix == 0)
            throw Error{Code::unsupported_configuration,
                        fmt::format("Network '{}': localPtr of {} needs a prefix that is a multiple of {}",
                                    network_.name, net.text(), step)};
        std::string zone;
        for (unsigned at = 0; at < net.prefix; at += step) {
            const unsigned byte = net.address.bytes[at / 8];
            const auto label =
                !net.address.v6 ? std::to_string(byte) : fmt::format("{:x}", at % 8 == 0 ? byte >> 4U : byte & 0xfU);
            zone = label + "." + zone;
        }
        line("local=/{}{}/", zone, net.address.v6 ? "ip6.arpa" : "in-addr.arpa");
    }

    const NetworkConfig& network_;
    const DnsmasqWords words_;
    const std::string &folder_, &user_;
    std::string text_;
    bool no_resolv_ = false, v4_ = false, v6_ = false;
    std::uint64_t leases_ = 0;
};

std::string hosts_file(const NetworkConfig& network) {
    const DnsmasqWords words{network.name};
    std::string text;
    if (!answers_names(network) || !network.dns) return text;
    for (const auto& host : network.dns->hosts) {
        text += words.address(host.ip, "the address of a DNS host").text();
        for (const auto& name : host.hostnames) text += " " + words.host_name(name, "the name of a DNS host");
        text += '\n';
    }
    return text;
}

std::string host_line(const DnsmasqWords& words, const DhcpHost& host) {
    constexpr std::string_view what = "the name of a DHCP host";
    if (host.mac.empty() && host.id.empty() && host.name.empty())
        words.refuse("a DHCP host", host.ip, "has neither mac nor id nor name");
    std::string text;
    const auto add = [&](const std::string& word) { text += (text.empty() ? "" : ",") + word; };
    if (!host.mac.empty()) add(words.mac(host.mac, "the MAC address of a DHCP host"));
    if (!host.id.empty()) add("id:" + words.client_id(host.id, "the id of a DHCP host"));
    if (!host.ip.empty()) add(bracketed(words.address(host.ip, "the address of a DHCP host")));
    if (!host.name.empty()) {
        // A word that begins with a digit may be a lease time, and two words are commands there.
        const char first = host.name[0];
        if ((first >= '0' && first <= '9') || host.name == "ignore" || host.name == "infinite")
            words.refuse(what, host.name, "dnsmasq does not take for a name");
        add(words.host_name(host.name, what));
    }
    if (const auto time = words.lease_time(host.lease); !time.empty()) add(time);
    return text + '\n';
}

std::string leases_file(const NetworkConfig& network) {
    const DnsmasqWords words{network.name};
    std::string text;
    for (const auto& ip : network.ips)
        if (ip.dhcp)
            for (const auto& host : ip.dhcp->hosts) text += host_line(words, host);
    return text;
}

}  // namespace

bool gives_addresses(const NetworkConfig& config) {
    return std::ranges::any_of(config.ips, [](const auto& ip) { return gives_addresses(ip); });
}

bool answers_names(const NetworkConfig& config) {
    return !config.dns || config.dns->enable.value_or(true);
}

DnsmasqFiles dnsmasq_files(const NetworkConfig& config, const std::string& folder, const std::string& user) {
    return {Config{config, folder, user}.text(), hosts_file(config), leases_file(config)};
}

}  // namespace virtbus::network
