// SPDX-License-Identifier: LGPL-2.1-or-later
// What snapshots cost, beside qemu-img doing the same to an image of the same making.
#pragma once

#include <string>

#include "tests/bench/bed.hpp"

namespace virtbus::bench {

/// Defines the domain of that number and forgets it in the end.
void measure_snapshots(Client& client, Table& table, const std::string& folder, int number, int rounds);

}  // namespace virtbus::bench
