// SPDX-License-Identifier: LGPL-2.1-or-later
// The first console of a machine that is its first serial port under a second name, when the port comes or goes.
#pragma once

#include "virtbus/model/domain.hpp"

namespace virtbus {

/// After the first serial port has come: it is a console, too, unless there is one for it already.
void add_console_of_serial(Devices& devices);
/// After the last one has gone: so does its console, or it would become a port again.
void drop_console_of_serial(Devices& devices);

}  // namespace virtbus
