// SPDX-License-Identifier: LGPL-2.1-or-later
// The groups of statistics by the words callers use: libvirt's ("cpu-total", "interface") and the first word of the
// names themselves ("cpu", "net").
#pragma once

#include <string>
#include <vector>

#include "virtbus/driver.hpp"

namespace virtbus {

/// InvalidOption for a word that is no group, naming those there are.
void require_stat_groups(const std::vector<std::string>& groups);
/// Leaves the statistics of these groups; none given: all.
void keep_stat_groups(Stats& stats, const std::vector<std::string>& groups);

}  // namespace virtbus
