// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/markup.hpp"

#include <algorithm>

namespace virtbus::xml {

namespace {

std::size_t behind(std::string_view text, std::string_view mark, std::size_t from) {
    const auto found = text.find(mark, from);
    return found == text.npos ? text.size() : found + mark.size();
}

Token tag(std::string_view text, std::size_t at) {
    auto end = at + 1;
    while (end < text.size() && text[end] != '>') {
        if (text[end] == '"' || text[end] == '\'') end = std::min(text.find(text[end], end + 1), text.size() - 1);
        ++end;
    }
    end = std::min(end + 1, text.size());
    const auto whole = text.substr(at, end - at);
    return {whole.starts_with("</") ? Markup::close : whole.ends_with("/>") ? Markup::empty : Markup::open, end};
}

}  // namespace

Token markup_at(std::string_view text, std::size_t at) {
    const auto rest = text.substr(at);
    if (rest.starts_with("<!--")) return {Markup::other, behind(text, "-->", at + 4)};
    if (rest.starts_with("<![CDATA[")) return {Markup::character_data, behind(text, "]]>", at + 9)};
    if (rest.starts_with("<?")) return {Markup::other, behind(text, "?>", at + 2)};
    return tag(text, at);
}

}  // namespace virtbus::xml
