// SPDX-License-Identifier: LGPL-2.1-or-later
// Who asks, as far as the rooms behind the bus need to know it: for permission, for file access and for "until the
// caller leaves". How the identity is established is dbus/'s work.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "virtbus/loop.hpp"

namespace virtbus {

struct Caller {
    std::string name;  ///< unique bus name, or "peer:<n>" on the socket
    std::uint32_t uid = 0;
    std::uint32_t pid = 0;             ///< 0 when it is not known
    std::uint64_t pid_start_time = 0;  ///< clock ticks since boot (/proc/pid/stat field 22); 0 when not known
    bool on_bus = true;                ///< false: a peer on the socket, known by pid and start time
    bool interactive = false;          ///< the message allows an authorization dialogue
};

/// Tells when a caller has left the bus or closed its connection.
class Callers {
public:
    virtual ~Callers() = default;
    [[nodiscard]] virtual Registration when_gone(const Caller& caller, std::function<void()> gone) = 0;
};

}  // namespace virtbus
