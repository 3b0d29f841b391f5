// SPDX-License-Identifier: LGPL-2.1-or-later
// The host's nftables table "bridge virtbus", with the filters of guests' interfaces: one transaction a change, changes
// by others noticed. What the rules say is filter_rules.hpp's knowledge.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "network/filter_rules.hpp"

namespace virtbus::network {

/// Blocks; safe to call from any thread. Filters belong to a device's index, which no other device gets: what is left
/// of a device that has gone touches nobody.
class FilterTable {
public:
    FilterTable();
    ~FilterTable();
    /// Sets the filter of a device, replacing the one it had, which is returned; addresses that were learned stay
    /// learned. Makes all others again that are not as they should be. Unsupported, naming the rule, where the kernel
    /// has not what it takes.
    std::optional<FilterRules> set(const FilterRules& rules);
    /// The device has none any more, also not one of an earlier daemon that sweep() has seen. With the last one the
    /// table goes.
    void remove(int index);
    /// For a daemon that has told of all links it has taken up: removes what is left of devices that are gone, and
    /// makes again what is missing.
    void sweep();
    /// Makes all again when a chain or the table is missing; costs one question to the kernel when nobody changed
    /// anything. Two services on one host do not keep each other busy with it.
    void repair();

private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

}  // namespace virtbus::network
