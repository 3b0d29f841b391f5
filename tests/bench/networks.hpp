// SPDX-License-Identifier: LGPL-2.1-or-later
// What virtual networks cost, beside dnsmasq starting by itself. In a network namespace of the bench's own.
#pragma once

#include <string>

#include "tests/bench/bed.hpp"

namespace virtbus::bench {

/// To be called before anything is started. Throws where it may not be done.
void enter_network_namespace();
/// Defines its networks and forgets them in the end.
void measure_networks(Client& client, Table& table, const std::string& folder, int rounds);

}  // namespace virtbus::bench
