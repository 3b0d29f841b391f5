// SPDX-License-Identifier: LGPL-2.1-or-later
// Host: this machine's ports, made together because each needs the loop.
#pragma once

#include "service/host/files.hpp"
#include "service/host/loop.hpp"
#include "service/host/spawner.hpp"
#include "service/host/workers.hpp"

namespace virtbus::host {

struct Host {
    MainLoop loop;
    SystemClock clock;
    ThreadPool state_workers{loop, 8};     ///< the daemon's own files
    ThreadPool outside_workers{loop, 16};  ///< what others name, and may hang
    LinuxFiles files{state_workers, outside_workers};
    ChildSpawner spawner{loop};
};

}  // namespace virtbus::host
