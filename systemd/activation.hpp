// SPDX-License-Identifier: LGPL-2.1-or-later
// The listening sockets that the service manager opened for the daemon.
#pragma once

#include <string>
#include <vector>

#include "virtbus/fd.hpp"

namespace virtbus::systemd {

/// Listening unix stream sockets with that FileDescriptorName, set to not block. They are handed over once: a second
/// call finds none.
std::vector<Fd> take_listening_sockets(const std::string& name);

}  // namespace virtbus::systemd
