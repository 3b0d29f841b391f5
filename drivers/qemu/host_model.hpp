// SPDX-License-Identifier: LGPL-2.1-or-later
// The processor of a guest that is to be like this host, written out: what a restore or a later emulator must give it
// again. And what is asked of QEMU at a start about a model that must fit exactly.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "qemu/capabilities.hpp"
#include "virtbus/model/domain.hpp"

namespace virtbus::qemu {

/// Replaces mode='host-model' and match='minimum' by the model and the features that are chosen here and now. Leaves
/// the definition as it is where QEMU does not tell of the host, or where TCG does not resolve them.
void resolve_host_model(DomainConfig& config, const Capabilities& known);

/// match='strict': the host may have nothing that the guest would not get.
bool is_strict(const DomainConfig& config);
/// The arguments of query-cpu-model-expansion that tell what the model has.
nlohmann::json strict_question(const DomainConfig& config);
/// What the host has beyond the model, given QEMU's answer; "" when it fits.
std::string strict_problem(const DomainConfig& config, const Capabilities& known, const nlohmann::json& answer);

}  // namespace virtbus::qemu
