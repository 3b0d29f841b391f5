// SPDX-License-Identifier: LGPL-2.1-or-later
// dnsmasq's lease database: read with bounds, as guests have a hand in it, and watched for changes.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "virtbus/loop.hpp"
#include "virtbus/network_driver.hpp"

namespace virtbus::network {

/// Lines that are no lease are passed over; hostnames that are none are left out.
std::vector<DhcpLease> parse_leases(std::string_view text, const NetworkConfig& config);

/// Tells when the file in the folder has changed, also when it is made anew. Main thread.
class LeaseWatch {
public:
    LeaseWatch(Loop& loop, std::string folder, std::string file, std::function<void()> changed);
    ~LeaseWatch();

private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

}  // namespace virtbus::network
