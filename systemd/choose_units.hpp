// SPDX-License-Identifier: LGPL-2.1-or-later
// Picks how guests are run: as transient services when a service manager answers, else as plain processes.
#pragma once

#include <memory>
#include <string>

#include "virtbus/ports.hpp"

namespace virtbus::systemd {

struct UnitsChoice {
    bool system_mode = false;
    std::string launcher;               ///< path of virtbus-launch
    std::string user = "virtbus-qemu";  ///< whose rights guests get in system mode; "" keeps the daemon's own
    bool manager = true;                ///< false: plain processes whatever answers
};

/// Never throws and never takes longer than the deadline: what does not answer by then is not used.
Task<std::unique_ptr<Units>> choose_units(Loop& loop, Workers& workers, Log& log, UnitsChoice choice,
                                          Deadline deadline);

}  // namespace virtbus::systemd
