// SPDX-License-Identifier: LGPL-2.1-or-later
// The kernel's traffic control in the words of this driver: queueing disciplines, classes and filters on a device, with
// failures as Error. What is limited to what is shaping.hpp's and bridge_shaping.hpp's business. Everything here
// blocks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "network/netlink.hpp"
#include "network/tap.hpp"
#include "virtbus/model/interface.hpp"

namespace virtbus::network {

/// A device whose traffic is controlled.
struct Shaped {
    nl_sock* socket = nullptr;
    int index = 0;
    std::string name;  ///< for messages
};

/// Bytes a second, and bytes.
struct Rate {
    std::uint64_t rate = 0, ceiling = 0;
    std::uint64_t burst = 0;  ///< 0 = a tenth of a second's worth
    bool operator==(const Rate&) const = default;
};

/// One htb class: 1:<id> below 1:<parent>, or below the root with parent 0.
struct RateClass {
    std::uint32_t id = 0, parent = 0;
    Rate rate;
};

/// Of <inbound> or <outbound>. InvalidXML without an average, UnsupportedConfiguration for more than the kernel's
/// buckets hold; `name` is the device's, for the message.
Rate rate_of(const BandwidthLimit& limit, const std::string& name, const char* element);
std::uint64_t kib_in_bytes(std::uint64_t kib, const char* what, const std::string& name);

/// A fresh htb with nothing in it; what the device had at its root goes.
void make_root(const Shaped& device, std::uint32_t default_class);
bool has_root(const Shaped& device);
void remove_root(const Shaped& device);
/// Adds the class, or changes it if it is there.
void set_rate_class(const Shaped& device, const RateClass& one);
/// One that is gone is no error.
void remove_rate_class(const Shaped& device, std::uint32_t id);
std::vector<RateClass> rate_classes(const Shaped& device);

/// Frames to that address belong to the class; the filter is the class's own and is replaced.
void lead_to_class(const Shaped& device, const MacAddress& mac, std::uint32_t id);
void forget_filter(const Shaped& device, std::uint32_t id);

/// What comes in through the device is dropped when it is too much: by the kernel's policing, or, where the kernel has
/// none, by way of a device of its own (ifb), which remove_ingress removes.
void limit_ingress(const Shaped& device, const Rate& limit, std::uint64_t peak);
void remove_ingress(const Shaped& device);
/// Removes the device that limit_ingress may have made, when the one that it was for may be gone.
void remove_intermediate(nl_sock* socket, int index);

/// The request to the kernel for policing; for tests.
Message police_request(int index, std::uint32_t rate, std::uint32_t burst, std::uint32_t peak);

}  // namespace virtbus::network
