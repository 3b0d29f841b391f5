// SPDX-License-Identifier: LGPL-2.1-or-later
// All devices of a definition in one flat list, with the words messages call them by.
#pragma once

#include <string>
#include <vector>

#include "virtbus/model/domain.hpp"

namespace virtbus::qemu {

struct DeviceRef {
    DeviceInfo* info;
    std::string name;  ///< "disk 'vda'", "interface 1 (52:54:00:11:22:33)"
};

/// In the order of the definition's lists. Invalid after any list changes.
std::vector<DeviceRef> list_devices(Devices& devices);

/// Behind those of its kind with a lower index, else at the end.
Controller& insert_controller(Devices& devices, Controller controller);

std::string name_of(const Disk& disk);
std::string name_of(const Controller& controller);
std::string name_of(const Interface& interface);

}  // namespace virtbus::qemu
