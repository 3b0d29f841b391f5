// SPDX-License-Identifier: LGPL-2.1-or-later
// The definition that goes with a running machine's state to where it is taken up again.
#pragma once

#include <string>

#include "virtbus/model/domain.hpp"

namespace virtbus::xml {

/// Without what belongs to the run (see without_live), but with the aliases: parts of the state are called after them.
DomainConfig without_run(const DomainConfig& config);
/// That as text, with its secrets.
std::string format_kept(const DomainConfig& config);

}  // namespace virtbus::xml
