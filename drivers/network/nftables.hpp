// SPDX-License-Identifier: LGPL-2.1-or-later
// libnftables: text to the kernel and its answer back. What tables say is rule_table's and filter_table's.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "virtbus/error.hpp"

namespace virtbus::network {

/// In the network namespace of the thread that speaks to it first. One thread at a time.
class Nftables {
public:
    Nftables();
    ~Nftables();
    /// What the kernel has against it; nothing when it is done.
    std::optional<std::string> run(const std::string& text);
    /// What the last run has listed.
    const std::string& printed() const { return printed_; }
    /// The kernel counts changes of all tables together; nothing when it does not tell.
    std::optional<std::uint32_t> generation();

private:
    struct Parts;
    void prepare();
    bool connect();
    std::unique_ptr<Parts> parts_;
    std::string printed_;
};

/// The kernel's words for what goes by itself.
bool is_transient(const std::string& said);
/// `parts` of the kernel that the table takes, for the case that they are missing.
Error nft_failure(std::string_view table, std::string_view parts, const std::string& said);

}  // namespace virtbus::network
