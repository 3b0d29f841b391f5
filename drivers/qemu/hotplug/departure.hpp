// SPDX-License-Identifier: LGPL-2.1-or-later
// Departure: the wait for something of a guest to go. Made before it is asked for, so that no answer comes too early,
// and forgotten with the object, however the wait ends.
#pragma once

#include <map>
#include <string>

#include "qemu/hotplug/plug.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::qemu {

class Departure {
public:
    /// `name` is a device's alias or path, or "tray " with an alias.
    Departure(CorePtr core, std::string name);
    ~Departure();
    Departure(const Departure&) = delete;
    Departure& operator=(const Departure&) = delete;

    /// False at the deadline. DeviceInUse when the guest refuses, HypervisorFailed when it ends.
    Task<bool> wait(Deadline deadline, std::stop_token stop);

private:
    CorePtr core_;
    std::string name_;
    Reply<> gone_;
    std::multimap<std::string, Reply<>::Promise>::iterator entry_;
};

}  // namespace virtbus::qemu
