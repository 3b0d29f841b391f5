// SPDX-License-Identifier: LGPL-2.1-or-later
// What the world sees of a domain and of a job: plain values, recomputed at every change and answered from without
// waiting for anybody. The bus properties of the same names are generated from these fields.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "virtbus/state.hpp"

namespace virtbus {

/// One entry of Disks, Interfaces, Displays or Consoles: words of the contract with their values.
using FieldValue = std::variant<std::string, std::uint64_t, std::uint32_t, std::int32_t, bool>;
using Fields = std::vector<std::pair<std::string, FieldValue>>;

struct DomainView {
    std::string name, uuid, driver, type;
    std::uint32_t id = 0;
    State state = State::shutoff;
    std::string state_reason = "unknown";
    std::uint64_t state_changed = 0;  ///< microseconds since the epoch
    bool persistent = false, autostart = false, updated = false;
    std::string title, description, arch, machine, os_type;
    std::uint32_t vcpus = 0, max_vcpus = 0;
    std::uint64_t memory = 0, max_memory = 0;  ///< bytes
    std::uint32_t process_id = 0;
    std::uint64_t started_at = 0;
    std::string unit;
    bool responsive = true, has_managed_save = false;
    std::string current_snapshot;     ///< its name, "" for none
    std::vector<std::uint64_t> jobs;  ///< ids of published jobs that hold or wait for the domain
    std::vector<Fields> disks, interfaces, displays, consoles;
    std::string firmware_vars;

    bool operator==(const DomainView&) const = default;
};

struct NetworkView {
    std::string name, uuid;
    bool active = false, persistent = false, autostart = false;
    std::string bridge, forward_mode, domain_name;
    std::vector<std::string> addresses;  ///< with their prefixes
    bool updated = false;                ///< the active definition differs from the stored one
    std::string problem;                 ///< why it does not serve as it should, or cannot be started; "" = all is well

    bool operator==(const NetworkView&) const = default;
};

enum class JobState { running, succeeded, failed, cancelled };

constexpr std::string_view word(JobState state) {
    constexpr std::array<std::string_view, 4> words{"running", "succeeded", "failed", "cancelled"};
    return words[static_cast<std::size_t>(state)];
}

struct JobView {
    std::uint64_t id = 0;
    std::string operation;
    std::vector<std::string> domains;   ///< uuids of the domains it is about
    std::vector<std::string> networks;  ///< uuids of the networks it is about
    std::string phase;
    double progress = 0;
    bool progress_valid = false;
    std::uint64_t bytes_done = 0, bytes_total = 0, started_at = 0;
    std::uint32_t started_by_uid = 0;
    bool cancelable = true;
    JobState state = JobState::running;
    std::string error_word;  ///< word(Code), "" while there is none
    std::string error_message;

    bool operator==(const JobView&) const = default;
};

}  // namespace virtbus
