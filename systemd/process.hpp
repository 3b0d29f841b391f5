// SPDX-License-Identifier: LGPL-2.1-or-later
// What both forms of Units do with a process: find it again, signal it, and prepare the folders it may write. Starting
// it is theirs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/protocol.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::systemd {

/// The live process of that pid if it was started at `start_time` (field 22 of /proc/pid/stat).
std::optional<Unit> find_process(std::uint32_t pid, std::uint64_t start_time, const std::string& unit);

/// Signals a process that may be gone already.
void signal_process(const Fd& pidfd, int signal);

/// The account of that name with its groups. nullopt when there is none.
std::optional<Account> find_account(const std::string& user);

/// Whose rights it runs with: of the account that the request names, if there is one, else those of a guest; nullopt
/// keeps the daemon's own.
std::optional<Account> account_of(const UnitRequest& request, const std::optional<Account>& guests);

/// Makes the account the owner of the folders a guest may write, and of the files in them.
void hand_over(const std::vector<std::string>& folders, const Account& account);
/// The same for device nodes that a guest opens itself. One that is missing is no error here: its user will say more.
void give_nodes(const std::vector<std::string>& nodes, const Account& account);
/// Raises what the process may lock, if it is less. Unsupported when we may not.
void let_lock(std::uint32_t pid, std::uint64_t bytes);

/// The account's are ours again.
void take_nodes(const std::vector<std::string>& nodes, const Account& account);

}  // namespace virtbus::systemd
