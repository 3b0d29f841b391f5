// SPDX-License-Identifier: LGPL-2.1-or-later
// How a reference to a secret becomes the name of its file below the folder of secrets.
#pragma once

#include <string>
#include <string_view>

#include "virtbus/model/storage_source.hpp"

namespace virtbus {

/// One name of a file for any text: no slash, no leading dot; other bytes than [A-Za-z0-9_.-] become %XX.
inline std::string file_name_of(std::string_view text) {
    constexpr std::string_view hex = "0123456789ABCDEF";
    std::string out;
    for (const char c : text) {
        const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        const auto byte = static_cast<unsigned char>(c);
        if (word || c == '_' || c == '-' || (c == '.' && !out.empty()))
            out += c;
        else
            out += {'%', hex[byte >> 4], hex[byte & 15]};
    }
    return out;
}

/// "<uuid>" or "<type>/<usage>"; "" for a reference that refers to nothing.
inline std::string secret_name(const SecretRef& reference) {
    if (!reference.uuid.empty()) return file_name_of(reference.uuid);
    if (reference.usage.empty() || reference.type.empty()) return {};
    return file_name_of(reference.type) + '/' + file_name_of(reference.usage);
}

}  // namespace virtbus
