// SPDX-License-Identifier: LGPL-2.1-or-later
// Finding, adding, taking out and replacing one device of a definition. Pure; what a device needs beside itself
// (addresses, controllers) is for the driver to complete.
#pragma once

#include <string>

#include "virtbus/model/device_lists.hpp"

namespace virtbus {

/// "disk 'vda'", "interface '52:54:00:…'": what messages call it.
std::string words_of(const Device& device);

/// The one device that `wanted` means: by its alias, its address, and what tells devices of its kind apart (a disk's
/// target, an interface's MAC …), as far as `wanted` says them. NoSuchDevice when there is none, InvalidArgs naming
/// the choices when there are several.
DevicePlace find_device(const DomainConfig& config, const Device& wanted);

/// AlreadyExists when the definition has its target, MAC, index or the like; UnsupportedConfiguration when another
/// device has its address. Returns its number among its kind.
std::size_t insert_device(DomainConfig& config, Device device);

/// What `now` has more, less or otherwise than `before`, told apart by aliases, is done to `config`, which has no
/// aliases. False when something of it is not to be found there.
bool follow_devices(DomainConfig& config, const Devices& before, const Devices& now);

}  // namespace virtbus
