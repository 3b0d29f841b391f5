// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices as values among the lists of a definition: counting, reading, replacing, adding and taking out those of one
// kind. Which device somebody means, and whether two get along, is for others to say.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "virtbus/model/domain.hpp"

namespace virtbus {

/// What a device is, as the index of its alternative.
using DeviceKind = std::size_t;
inline constexpr DeviceKind device_kinds = std::variant_size_v<AnyDevice>;

template <class T>
const DeviceKind kind_of = Device{T{}}.index();

std::size_t count_devices(const Devices& devices, DeviceKind kind);
Device device_at(const Devices& devices, DeviceKind kind, std::size_t number);
void replace_device(Devices& devices, std::size_t number, Device device);

/// Puts it where it belongs among its kind (disks and controllers in their order, the rest at the end) and returns its
/// number there. The size of a memory device is added to the domain's memory.
std::size_t add_device(DomainConfig& config, Device device);
void remove_device(DomainConfig& config, DeviceKind kind, std::size_t number);

/// Alias, address and boot order; null for the kinds that have none (graphics, audio, lease, redirfilter).
DeviceInfo* find_info(Device& device);
const DeviceInfo* find_info(const Device& device);

struct DevicePlace {
    DeviceKind kind = 0;
    std::size_t number = 0;
};
/// Every device, kind by kind.
std::vector<DevicePlace> all_devices(const Devices& devices);
std::optional<DevicePlace> find_alias(const Devices& devices, std::string_view alias);

}  // namespace virtbus
