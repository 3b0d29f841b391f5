// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: a network namespace of the test's own, so that no packet leaves it.
#pragma once

#include <sched.h>

#include "tests/support/shell.hpp"

namespace virtbus::tests {

/// Makes this process's network its own; false where that is not permitted. Before threads start: each has its own.
inline bool enter_network_namespace() {
    static const bool entered = ::unshare(CLONE_NEWNET) == 0 && succeeds("ip link set lo up");
    return entered;
}

}  // namespace virtbus::tests
