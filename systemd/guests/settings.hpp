// SPDX-License-Identifier: LGPL-2.1-or-later
// What the administrator wants to become of running guests when the host stops (guests.conf).
#pragma once

#include <chrono>
#include <map>
#include <string>

namespace virtbus::systemd {

enum class OnStop { shutdown, save, stop };

struct GuestSettings {
    OnStop on_stop = OnStop::shutdown;
    std::chrono::seconds timeout{120};
    std::map<std::string, OnStop> domains;  ///< by name or UUID

    OnStop for_domain(const std::string& name, const std::string& uuid) const;
};

/// A missing file means the defaults. InvalidOption for a file that cannot be understood, naming what.
GuestSettings load_guest_settings(const std::string& path);

}  // namespace virtbus::systemd
