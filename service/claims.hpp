// SPDX-License-Identifier: LGPL-2.1-or-later
// How the record writes down which devices of the host a guest has, and what a PCI device was before. A claim begins
// with the device's name ("pci:0000:01:00.0", "usb:003/004"), which holds no blank.
#pragma once

#include <string>
#include <string_view>

#include "virtbus/ports.hpp"

namespace virtbus {

bool is_claim(std::string_view key);
/// The device's name.
std::string_view claimed(std::string_view key);
/// The claim on a PCI device that `bound` is about to have.
std::string taken_claim(std::string_view device, const std::string& bound, const PciFacts& before);
/// What is left to do for a claim that ends. `pci` may be null.
Task<> release_claim(PciDevices* pci, std::string key);

}  // namespace virtbus
