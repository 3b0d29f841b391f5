// SPDX-License-Identifier: LGPL-2.1-or-later
// The state of a test domain as a stream: what it remembers, and as many bytes of made-up memory as make a stream worth
// the name, which are checked when they are read.
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>

#include "test/behaviour.hpp"
#include "virtbus/driver.hpp"

namespace virtbus::test_driver {

/// HypervisorFailed when the target takes no more.
Task<> write_state(Loop& loop, Fd target, std::string memory, Behaviour behaviour, ProgressSink progress,
                   std::stop_token stop);
/// What `memory` was. HypervisorFailed when the stream ends early, is altered or is of something else.
Task<std::string> read_state(Loop& loop, Fd source, std::stop_token stop);

}  // namespace virtbus::test_driver
