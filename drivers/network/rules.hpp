// SPDX-License-Identifier: LGPL-2.1-or-later
// What a network's packets may do, as text for nftables: a pure function of the definition. Loading it is rule_table's
// work.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "virtbus/model/network.hpp"

namespace virtbus::network {

/// What a network's chains are for. Each has its map from the bridge's name to the chain, so that a packet costs a look
/// into a table however many networks there are. `out` and `in` are for what the host forwards from and to the bridge,
/// `nat` for the first packet of what leaves it. A chain refuses a packet or has nothing against it: it accepts none on
/// behalf of others' tables, and theirs may refuse what it lets pass.
struct RuleKind {
    std::string_view chain;  ///< "out" of "out_virbr0"
    std::string_view map;
};
inline constexpr std::array rule_kinds{RuleKind{"out", "outgoing"}, RuleKind{"in", "incoming"},
                                       RuleKind{"nat", "translated"}};
/// "out_virbr0"; what cannot stand in a name is written in hex.
std::string chain_of(const RuleKind& kind, const std::string& bridge);

/// The rules of one active network: the blocks of its chains, one of each kind. What guests and the host say to each
/// other is not ruled here.
struct NetworkRules {
    std::string bridge;  ///< names the chains
    std::string text;    ///< "" when the mode has none (open)
    bool operator==(const NetworkRules&) const = default;
};
/// InvalidXML for names of devices that cannot stand in rules.
NetworkRules rules_of(const NetworkConfig& config);

}  // namespace virtbus::network
