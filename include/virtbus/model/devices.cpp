// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtbus/model/devices.hpp"

namespace virtbus {

Devices::Devices() = default;
Devices::Devices(const Devices&) = default;
Devices::Devices(Devices&&) noexcept = default;
Devices& Devices::operator=(const Devices&) = default;
Devices& Devices::operator=(Devices&&) noexcept = default;
Devices::~Devices() = default;
bool Devices::operator==(const Devices&) const = default;

}  // namespace virtbus
