// SPDX-License-Identifier: LGPL-2.1-or-later
// The files that tell dnsmasq what to serve, as pure functions of the definition. Running it is dnsmasq.hpp's work.
#pragma once

#include <string>

#include "virtbus/model/network.hpp"

namespace virtbus::network {

struct DnsmasqFiles {
    std::string config;  ///< read once, at its start
    std::string hosts;   ///< addresses with names, and
    std::string leases;  ///< addresses for hosts: read again on SIGHUP
    bool operator==(const DnsmasqFiles&) const = default;
};
/// `folder` is where the files will be. Words of the definition cannot break out of their place in it: InvalidXML.
DnsmasqFiles dnsmasq_files(const NetworkConfig& config, const std::string& folder, const std::string& user);

}  // namespace virtbus::network
