// SPDX-License-Identifier: LGPL-2.1-or-later
// The files that tell dnsmasq what to serve, as pure functions of the definition. Running it is dnsmasq.hpp's work.
#pragma once

#include <string>
#include <string_view>

#include "virtbus/model/network.hpp"

namespace virtbus::network {

struct DnsmasqFiles {
    std::string config;  ///< read once, at its start
    std::string hosts;   ///< addresses with names, and
    std::string leases;  ///< addresses for hosts: read again on SIGHUP
    bool operator==(const DnsmasqFiles&) const = default;
};

/// Where they are below dnsmasq's folder. Only `run` is written by dnsmasq itself.
namespace dnsmasq_place {
inline constexpr std::string_view config = "/conf", hosts = "/hosts", leases = "/dhcp-hosts", run = "/run",
                                  lease_file = "/run/leases", pid_file = "/run/pid";
}

/// `folder` is where the files will be; `user` whom it becomes when it is started as root, "" for nobody in particular.
/// Words of the definition cannot break out of their place in it: InvalidXML.
DnsmasqFiles dnsmasq_files(const NetworkConfig& config, const std::string& folder, const std::string& user);

/// It gives out addresses, not only names and routes.
bool gives_addresses(const NetworkConfig& config);
bool answers_names(const NetworkConfig& config);

}  // namespace virtbus::network
