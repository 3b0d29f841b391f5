// SPDX-License-Identifier: LGPL-2.1-or-later
// What a device needs to be plugged into a machine that runs: its place, its name, controllers that must come first;
// and whether the machine can take it or give it up at all. Pure.
#pragma once

#include "qemu/capabilities.hpp"
#include "virtbus/model/device_lists.hpp"

namespace virtbus::qemu {

struct PlugPlan {
    std::vector<Device> devices;  ///< in the order in which they are plugged: what it hangs on first, itself last
    /// The running machine reduced to what decides how its devices are written, without and with the new ones.
    DomainConfig without, with;
};

/// Unsupported or UnsupportedConfiguration, saying what the machine lacks. What `stored` (may be null) claims is left
/// free where possible, and a device it has already gets the place it has there.
PlugPlan plan_attach(const DomainConfig& live, Device device, const DomainConfig* stored,
                     const Capabilities& capabilities);

/// Unsupported: the guest can never be asked for it. DeviceInUse, naming what hangs on it.
void require_detachable(const DomainConfig& live, const Device& device);

/// The machine without the devices that are not needed to write others; with those in `devices`.
DomainConfig reduced(const DomainConfig& live, const std::vector<Device>& devices);

}  // namespace virtbus::qemu
