// SPDX-License-Identifier: LGPL-2.1-or-later
// The daemon's command line.
#pragma once

#include <optional>
#include <string>

#include "virtbus/loop.hpp"

namespace virtbus {

struct DaemonOptions {
    bool system_mode = false;
    bool debug = false;
    bool plain_guests = false;  ///< guests as plain processes, whatever service manager there is
    Duration idle_exit{0};      ///< 0: stays
    std::string launcher;       ///< path of virtbus-launch
};

/// Prints help, version or what is wrong; then there is an exit code instead of options.
struct CommandLineResult {
    std::optional<DaemonOptions> options;
    int exit_code = 0;
};
CommandLineResult parse_command_line(int argc, char** argv);

}  // namespace virtbus
