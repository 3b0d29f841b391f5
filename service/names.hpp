// SPDX-License-Identifier: LGPL-2.1-or-later
// UUIDs and names as they are looked up and shown in messages. What may be a name is service/xml's rule.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace virtbus {

/// Lower case with dashes, from any spelling with or without dashes; nullopt for what is no UUID.
std::optional<std::string> normal_uuid(std::string_view text);
/// A UUID that is always the same for the same text; for objects that have lost their own.
std::string made_up_uuid(std::string_view text);
/// The text with control characters replaced and cut to a length fit for a message.
std::string printable(std::string_view text);

}  // namespace virtbus
