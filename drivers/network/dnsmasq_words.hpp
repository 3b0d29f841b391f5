// SPDX-License-Identifier: LGPL-2.1-or-later
// Words of a definition as dnsmasq's files take them: each throws InvalidXML, naming the value, for what would be more
// than one word there.
#pragma once

#include <string>
#include <string_view>

#include "virtbus/model/network.hpp"

namespace virtbus::network {

class DnsmasqWords {
public:
    explicit DnsmasqWords(std::string network) : network_{std::move(network)} {}

    /// `what` names the value for the reader: "the name of a DNS host".
    std::string host_name(const std::string& value, std::string_view what) const;
    std::string device(const std::string& value, std::string_view what) const;
    std::string mac(const std::string& value, std::string_view what) const;
    /// A client's identifier or DUID: hexadecimal numbers and colons.
    std::string client_id(const std::string& value, std::string_view what) const;
    Ip address(const std::string& value, std::string_view what) const;
    /// Any text of one line, in quotes.
    std::string quoted(const std::string& value, std::string_view what) const;
    /// Any text of one line that is not too long for DNS, in quotes.
    std::string quoted_text(const std::string& value, std::string_view what) const;
    /// Seconds, or "infinite"; "" for none.
    std::string lease_time(const std::optional<LeaseTime>& time) const;
    /// A line of an administrator's own: one option that neither runs programs nor takes away what the service needs.
    std::string option(const std::string& line) const;

    [[noreturn]] void refuse(std::string_view what, std::string_view value, std::string_view why) const;

private:
    std::string network_;
};

}  // namespace virtbus::network
