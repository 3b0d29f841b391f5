// SPDX-License-Identifier: LGPL-2.1-or-later
// What stands at a path that may lie on a disk that hangs: looked at by a worker, with a deadline.
#pragma once

#include <stop_token>
#include <string>

#include "virtbus/ports.hpp"

namespace virtbus {

struct Found {
    bool there = false;
    bool taken = false;  ///< something other than an empty file
};
Task<Found> look_at(Workers& workers, std::string path, std::stop_token stop);

}  // namespace virtbus
