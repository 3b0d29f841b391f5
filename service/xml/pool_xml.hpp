// SPDX-License-Identifier: LGPL-2.1-or-later
// libvirt's <pool>, read only: virtbus makes no pools, it looks volumes up in them.
#pragma once

#include <string_view>

#include "virtbus/model/storage_pool.hpp"

namespace virtbus::xml {

inline constexpr std::size_t largest_pool = 1UL << 20;

/// InvalidXML, LimitsExceeded. What a disk does not need (capacity, permissions, ...) is passed over.
StoragePool parse_pool(std::string_view xml);

}  // namespace virtbus::xml
