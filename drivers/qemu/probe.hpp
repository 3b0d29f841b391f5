// SPDX-License-Identifier: LGPL-2.1-or-later
// Learns what an emulator can do by running it once, without a machine, and asking everything in one batch over QMP.
// Which binaries may be run and how long an answer is kept is capability_cache.hpp's work.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <stop_token>
#include <string>

#include "qemu/capabilities.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::qemu {

/// Answers of one run by the name of the question.
using ProbeAnswers = std::map<std::string, nlohmann::json>;

/// Runs the binary with the accelerator list ("tcg:kvm", "kvm"). HypervisorFailed with its last words.
Task<ProbeAnswers> ask_emulator(std::string binary, std::string accelerators, Loop& loop, Spawner& spawner,
                                Deadline deadline);
/// The whole probe; a second run learns what KVM offers when /dev/kvm is there.
Task<Capabilities> probe(std::string binary, bool with_kvm, Loop& loop, Spawner& spawner, Deadline deadline);

/// Reads the answers; `kvm` is empty without KVM. What is missing or misshapen is left out.
Capabilities capabilities_from(std::string binary, const ProbeAnswers& answers, const ProbeAnswers& kvm);

nlohmann::json to_json(const Capabilities& capabilities);
Capabilities capabilities_from_json(const nlohmann::json& json);

/// libvirt's name for QEMU's target ("i386" is "i686", "arm" is "armv7l").
std::string arch_of_target(std::string_view target);
std::string target_of_arch(std::string_view arch);

}  // namespace virtbus::qemu
