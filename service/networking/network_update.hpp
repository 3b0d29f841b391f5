// SPDX-License-Identifier: LGPL-2.1-or-later
// Update's changes of one part of a network's definition, as a function from definition to definition. Whether guests
// stand in the way, and how an active network follows, is decided elsewhere.
#pragma once

#include "service/networks.hpp"
#include "virtbus/model/network.hpp"

namespace virtbus {

/// InvalidArgs for an unknown command or section and for a parent index that leads nowhere, each listing what there is;
/// InvalidXML for the part; AlreadyExists for an addition that is there already; InvalidState for a part to be modified
/// or deleted that is not there. The result is complete and checked.
NetworkConfig updated(NetworkConfig config, const NetworkUpdate& update);

}  // namespace virtbus
