// SPDX-License-Identifier: LGPL-2.1-or-later
// <cputune>'s pins: which of the host's processors each thread of a guest may use.
#pragma once

#include <sys/types.h>

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "virtbus/model/domain.hpp"

namespace virtbus::qemu {

bool has_pins(const DomainConfig& config);

/// The set of each thread, from the answers of query-cpus-fast and query-iothreads and the process's list of threads.
std::map<pid_t, CpuSet> plan_pins(const DomainConfig& config, const nlohmann::json& cpus,
                                  const nlohmann::json& iothreads, const std::vector<pid_t>& threads);

std::vector<pid_t> threads_of(pid_t process);
/// The reason why a thread could not be pinned; empty when all are.
std::string apply_pins(const std::map<pid_t, CpuSet>& pins);

}  // namespace virtbus::qemu
