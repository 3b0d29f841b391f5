// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtbus/model/devices.hpp"

namespace virtbus {

Device::Device() = default;
Device::Device(const Device&) = default;
Device::Device(Device&&) noexcept = default;
Device& Device::operator=(const Device&) = default;
Device& Device::operator=(Device&&) noexcept = default;
Device::~Device() = default;
bool Device::operator==(const Device& other) const {
    return static_cast<const AnyDevice&>(*this) == static_cast<const AnyDevice&>(other);
}

}  // namespace virtbus
