// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtbus/model/console_pair.hpp"

namespace virtbus {

namespace {

bool has_console_of_serial(const Devices& devices) {
    if (devices.consoles.empty()) return false;
    const auto& target = devices.consoles.front().target;
    return !target || target->type.empty() || target->type == "serial";
}

}  // namespace

void add_console_of_serial(Devices& devices) {
    if (devices.serials.size() != 1 || has_console_of_serial(devices)) return;
    const auto& serial = devices.serials.front();
    Console console;
    console.type = serial.type;
    console.backend = serial.backend;
    console.info.alias = serial.info.alias;
    console.target.emplace().type = "serial";
    console.target->port = 0;
    if (console.type == ChardevType::pty && serial.backend.source()) console.tty = serial.backend.source()->path;
    devices.consoles.insert(devices.consoles.begin(), std::move(console));
}

void drop_console_of_serial(Devices& devices) {
    if (devices.serials.empty() && has_console_of_serial(devices)) devices.consoles.erase(devices.consoles.begin());
}

}  // namespace virtbus
