// SPDX-License-Identifier: LGPL-2.1-or-later
// What has to be there before a device can be plugged: what it opens, what is said of it, descriptors handed over.
#pragma once

#include <string>
#include <vector>

#include "qemu/hotplug/parts.hpp"
#include "qemu/hotplug/plan.hpp"
#include "qemu/hotplug/plug.hpp"

namespace virtbus::qemu {

struct Prepared {
    std::vector<Device> devices;
    CommandLine line;  ///< its descriptors
    std::vector<Word> words;
    std::vector<DescriptorUse> descriptors;
    UnitGrant grant;  ///< what its sandbox has to let it do more
};

/// Opens what the devices need and works out what the line would say more.
Task<Prepared> prepare(CorePtr core, Known known, PlugPlan plan, Resources& resources);

/// Hands the descriptors over. Throws what the first refusal was.
Task<> send_descriptors(CorePtr core, Prepared& prepared);
std::vector<Part> sets_of(const Prepared& prepared);
/// Names of descriptors that nothing has taken go.
Task<> close_names(CorePtr core, const Prepared& prepared);

}  // namespace virtbus::qemu
