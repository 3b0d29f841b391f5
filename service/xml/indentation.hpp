// SPDX-License-Identifier: LGPL-2.1-or-later
// Moves an XML element's text right or left. Only line breaks between tags are touched: what an element says keeps its
// blanks. Takes text that is known to be well-formed; asks no parser.
#pragma once

#include <string>
#include <string_view>

namespace virtbus::xml {

/// Every line but the first gets `blanks` in front.
std::string indented(std::string_view element, std::string_view blanks);
/// The reverse, for the lines that have them.
std::string without_indentation(std::string_view element, std::string_view blanks);

}  // namespace virtbus::xml
