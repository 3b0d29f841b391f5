// SPDX-License-Identifier: LGPL-2.1-or-later
// What a definition shows to the world: the part of DomainView that follows from a DomainConfig. The state, the run and
// what lies on disk are the machine's to fill in.
#pragma once

#include "service/views.hpp"
#include "virtbus/model/domain.hpp"

namespace virtbus {

void describe(DomainView& view, const DomainConfig& config);

/// Where the firmware keeps its variables; "" when it keeps none.
std::string variable_store(const Os& os);

}  // namespace virtbus
