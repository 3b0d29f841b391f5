// SPDX-License-Identifier: LGPL-2.1-or-later
// What a network's packets may do, as text for nftables: a pure function of the definition. Loading it is rule_table's
// work.
#pragma once

#include <string>

#include "virtbus/model/network.hpp"

namespace virtbus::network {

/// The rules of one active network, in chains of its own.
struct NetworkRules {
    std::string bridge;  ///< names the chains
    std::string text;    ///< "" when the mode has none (open)
    bool operator==(const NetworkRules&) const = default;
};
NetworkRules rules_of(const NetworkConfig& config);

}  // namespace virtbus::network
