// SPDX-License-Identifier: LGPL-2.1-or-later
// The properties of a transient service, a guest's or one of the host's: what it may do and what it may not. Starting
// it is left to transient_units.
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include "manager_bus.hpp"
#include "transient_units.hpp"

namespace virtbus::systemd {

/// `account` is what account_of() says.
UnitProperties unit_properties(const UnitRequest& request, const TransientUnits::Options& options, int standard_input,
                               const std::optional<Account>& account);

}  // namespace virtbus::systemd
