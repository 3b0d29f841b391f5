// SPDX-License-Identifier: LGPL-2.1-or-later
// The rules that span elements of a <network>, in three groups: the mode and what it has (network_complete.cpp),
// addresses (network_addresses.cpp), names and records (network_names.cpp). InvalidXML names the rule that is broken.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "virtbus/error.hpp"
#include "virtbus/model/network.hpp"

namespace virtbus::xml {

template <class... T>
[[noreturn]] void broken_network(fmt::format_string<T...> format, T&&... values) {
    throw Error{Code::invalid_xml, fmt::format(format, std::forward<T>(values)...)};
}

/// Of <ip>, DHCP, NAT ranges and routes.
void check_addresses(NetworkConfig& config);
/// Of <domain>, <dns>, dnsmasq's options.
void check_names(const NetworkConfig& config);

/// `what` is the element with its attribute, for the message: "<dns><host><hostname>".
Ip require_address(std::string_view what, std::string_view text);
/// Letters, digits, '-', '_' between dots: what can be put into a server's configuration as it is.
void require_dns_name(std::string_view what, std::string_view name);
/// The same without dots, beginning with a letter, and no word that dnsmasq takes for something else.
void require_client_name(std::string_view what, std::string_view name);
/// One line that keeps its place in a server's configuration: no quotes, backslashes, commas, '#'.
void require_plain(std::string_view what, std::string_view text);
/// Of the kernel: 1 to 15 bytes, no '/', ':' or blanks, none of the names that stand for all devices.
void require_device_name(std::string_view what, std::string_view name);

}  // namespace virtbus::xml
