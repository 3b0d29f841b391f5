// SPDX-License-Identifier: LGPL-2.1-or-later
// Where tags and comments end, in a text that need not be XML at all: for those who cut or move text. What it means is
// the document's knowledge.
#pragma once

#include <cstddef>
#include <string_view>

namespace virtbus::xml {

/// `other`: a comment or a processing instruction.
enum class Markup { open, close, empty, character_data, other };

struct Token {
    Markup markup;
    std::size_t end;  ///< behind it; the end of the text when it is cut
};

/// What begins with the '<' at `at`.
Token markup_at(std::string_view text, std::size_t at);

}  // namespace virtbus::xml
