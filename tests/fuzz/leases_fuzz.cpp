// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as dnsmasq's lease database: bounded, and what is told of them are addresses, MAC addresses and host names.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "network/leases.hpp"

namespace {

using namespace virtbus;

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

bool is_plain(const std::string& text, const char* others) {
    return std::ranges::all_of(text, [others](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               std::string_view{others}.find(c) != std::string_view::npos;
    });
}

NetworkConfig one_network() {
    NetworkConfig config;
    auto& ip = config.ips.emplace_back();
    ip.address = "192.168.77.1";
    ip.prefix = 24;
    return config;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const auto config = one_network();
    const std::string_view text{reinterpret_cast<const char*>(data), size};
    const auto leases = network::parse_leases(text, config);
    require(leases.size() <= static_cast<std::size_t>(std::ranges::count(text, '\n')), "a line is one lease at most");
    for (const auto& lease : leases) {
        const auto address = Ip::parse(lease.address);
        require(address && address->text() == lease.address, "the address is one");
        require(lease.mac.empty() || (lease.mac.size() == 17 && is_plain(lease.mac, ":")), "the MAC address is one");
        require(lease.hostname.size() <= 253 && is_plain(lease.hostname, "-_."), "the host name is one");
        require(is_plain(lease.client_id, ":/"), "the client's identifier is one");
        require(lease.prefix == 0 || lease.prefix == 24, "the prefix is the network's");
    }
    return 0;
}
