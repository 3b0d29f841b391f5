// SPDX-License-Identifier: LGPL-2.1-or-later
// JSON from a peer that is not trusted: parsed with bounds, read without throwing on what has the wrong shape.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace virtbus::qemu {

/// InvalidArgs, saying where, for what is no JSON or nests deeper than any answer of QEMU.
nlohmann::json parse_json(std::string_view text);

/// The member of an object; null when it is missing or `object` is none.
const nlohmann::json& member(const nlohmann::json& object, std::string_view name);
/// The member when it has that shape, else the fallback.
std::string text(const nlohmann::json& object, std::string_view name, std::string fallback = {});
std::uint64_t number(const nlohmann::json& object, std::string_view name, std::uint64_t fallback = 0);
bool flag(const nlohmann::json& object, std::string_view name, bool fallback = false);

/// At most so much of what a peer sent, printable, for messages.
std::string excerpt(std::string_view text, std::size_t limit = 80);

}  // namespace virtbus::qemu
