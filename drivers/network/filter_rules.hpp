// SPDX-License-Identifier: LGPL-2.1-or-later
// What the frames of a guest's interface may be, as text for nftables: a pure function of its filter. Loading it is
// filter_table's work.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "virtbus/model/network_filter.hpp"

namespace virtbus::network {

/// Frames go through two layers, and an `accept` ends one of them only: rules for protocols of the link, ARP and
/// addresses first, then those for TCP and its like. Each has a chain for what the guest sends (`out`) and one for what
/// it gets, with a map from the device's index to the chain.
struct FilterWay {
    std::string_view chain;  ///< "eth-out" of "eth-out-7-vnet0"
    std::string_view map;
    std::string_view base;  ///< the chain that looks into the map
    bool out;
    bool deep;  ///< of the second layer
};
inline constexpr std::array filter_ways{FilterWay{"eth-out", "eth_out", "eth_prerouting", true, false},
                                        FilterWay{"eth-in", "eth_in", "eth_postrouting", false, false},
                                        FilterWay{"ip-out", "ip_out", "ip_prerouting", true, true},
                                        FilterWay{"ip-in", "ip_in", "ip_postrouting", false, true}};

struct FilterRules {
    int index = 0;                    ///< of the device
    std::vector<std::string> chains;  ///< those of filter_ways first, in their order
    std::vector<std::string> sets;    ///< of addresses that are learned
    std::string text;                 ///< of the sets and chains, for the inside of the table
    std::string tracked;              ///< the first rule that needs connection tracking, in words; "" = none does
    bool operator==(const FilterRules&) const = default;
};

/// Unsupported, naming the rule, for what nftables cannot do.
FilterRules filter_rules(const LinkFilter& filter, int index, const std::string& device);

}  // namespace virtbus::network
