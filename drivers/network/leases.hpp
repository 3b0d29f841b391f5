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

/// Lines that are no lease, and a last one without its end, are passed over; hostnames that are none are left out.
std::vector<DhcpLease> parse_leases(std::string_view text, const NetworkConfig& config);

/// The file's text as far as it is read at all; "" when there is no such file, or something else of that name.
std::string read_leases(const std::string& path);

/// Tells when the file in the folder has changed, also when it is made anew. Changes that come together are told once.
/// Main thread.
class LeaseWatch {
public:
    LeaseWatch(Loop& loop, const std::string& folder, std::string file, std::function<void()> changed);
    ~LeaseWatch();

private:
    struct Parts;
    std::shared_ptr<Parts> parts_;
};

}  // namespace virtbus::network
