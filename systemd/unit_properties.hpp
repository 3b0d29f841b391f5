// SPDX-License-Identifier: LGPL-2.1-or-later
// The properties of a guest's transient service: what it may do and what it may not. Starting it is left to
// transient_units.
#pragma once

#include <sdbus-c++/sdbus-c++.h>

#include "manager_bus.hpp"
#include "transient_units.hpp"

namespace virtbus::systemd {

UnitProperties unit_properties(const UnitRequest& request, const TransientUnits::Options& options, int standard_input);

}  // namespace virtbus::systemd
