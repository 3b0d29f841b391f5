// SPDX-License-Identifier: LGPL-2.1-or-later
// The host's nftables table "virtbus": one transaction a change, nobody else's tables touched, changes by others
// noticed. What the rules say is rules.hpp's knowledge.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "network/rules.hpp"

namespace virtbus::network {

/// Blocks; safe to call from any thread. Changes that come together share a transaction.
class RuleTable {
public:
    RuleTable();
    ~RuleTable();
    /// Sets the rules of a network, replacing those it had, and makes all others again that are not as they should be.
    void set(const NetworkRules& rules);
    /// It has none any more. With the last one the table goes.
    void remove(const std::string& bridge);
    /// Makes known, without a transaction, what an earlier daemon has loaded; set() or repair() checks it.
    void adopt(const NetworkRules& rules);
    /// Makes again what is missing; does nothing, and costs one question to the kernel, when nobody changed anything.
    void repair();

private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

}  // namespace virtbus::network
