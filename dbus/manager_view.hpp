// SPDX-License-Identifier: LGPL-2.1-or-later
// What Manager's properties show: the service and its host, as they were when it started.
#pragma once

#include <string>
#include <vector>

#include "service/views.hpp"

namespace virtbus::dbus {

struct ManagerView {
    std::string version, mode;
    std::vector<std::string> drivers, features;
    Fields host;
};

}  // namespace virtbus::dbus
