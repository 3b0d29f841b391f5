// SPDX-License-Identifier: LGPL-2.1-or-later
// Drives one sd_bus from the GLib main loop: asks it before every poll what it waits for, and lets it work when that
// has come.
#pragma once

#include <functional>

struct sd_bus;

namespace virtbus::dbus {

class BusSource {
public:
    /// `lost` is called once, from the loop, with the errno that ended the connection. While `hold` is true nothing is
    /// read, only written.
    BusSource(sd_bus* bus, std::function<void(int error)> lost, std::function<bool()> hold = {});
    ~BusSource();
    BusSource(const BusSource&) = delete;
    BusSource& operator=(const BusSource&) = delete;

private:
    struct Source;
    Source* source_;
};

}  // namespace virtbus::dbus
