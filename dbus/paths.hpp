// SPDX-License-Identifier: LGPL-2.1-or-later
// Object paths and what they stand for: a UUID with `_` for `-`, any other name with `_xx` for what a path cannot hold.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "dbus/server/wire.hpp"

namespace virtbus::dbus {

inline constexpr const char* root_path = "/org/virtbus1";
inline const ObjectPath no_object{"/"};

std::string domain_path(std::string_view uuid);
std::string network_path(std::string_view uuid);
std::string job_path(std::uint64_t id);
std::string snapshot_path(std::string_view domain_uuid, std::string_view name);
std::string checkpoint_path(std::string_view domain_uuid, std::string_view name);

std::string uuid_to_element(std::string_view uuid);
/// Only the one spelling that uuid_to_element makes.
std::optional<std::string> element_to_uuid(std::string_view element);
std::string name_to_element(std::string_view name);
std::optional<std::string> element_to_name(std::string_view element);
/// The number of a job; no leading zeros.
std::optional<std::uint64_t> element_to_number(std::string_view element);

}  // namespace virtbus::dbus
