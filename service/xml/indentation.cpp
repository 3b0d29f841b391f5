// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/indentation.hpp"

#include <algorithm>

#include "service/xml/values.hpp"

namespace virtbus::xml {

namespace {

enum class Markup { open, close, empty, character_data, other };

struct Token {
    Markup markup;
    std::size_t end;
};

std::size_t after(std::string_view xml, std::string_view mark, std::size_t from) {
    const auto found = xml.find(mark, from);
    return found == xml.npos ? xml.size() : found + mark.size();
}

Token tag(std::string_view xml, std::size_t at) {
    auto end = at + 1;
    while (end < xml.size() && xml[end] != '>') {
        if (xml[end] == '"' || xml[end] == '\'') end = std::min(xml.find(xml[end], end + 1), xml.size() - 1);
        ++end;
    }
    end = std::min(end + 1, xml.size());
    const auto text = xml.substr(at, end - at);
    return {text.starts_with("</") ? Markup::close : text.ends_with("/>") ? Markup::empty : Markup::open, end};
}

/// What begins with the '<' at `at`.
Token markup(std::string_view xml, std::size_t at) {
    const auto rest = xml.substr(at);
    if (rest.starts_with("<!--")) return {Markup::other, after(xml, "-->", at + 4)};
    if (rest.starts_with("<![CDATA[")) return {Markup::character_data, after(xml, "]]>", at + 9)};
    if (rest.starts_with("<?")) return {Markup::other, after(xml, "?>", at + 2)};
    return tag(xml, at);
}

/// Between two tags, and not all that an element says.
bool is_layout(std::string_view text, Markup before, std::string_view rest) {
    if (!trim(text).empty() || text.find('\n') == text.npos) return false;
    if (before == Markup::character_data || rest.starts_with("<![CDATA[")) return false;
    return before != Markup::open || !rest.starts_with("</");
}

template <class Change>
std::string each_line(std::string_view xml, Change&& change) {
    std::string out;
    out.reserve(xml.size());
    auto before = Markup::other;
    for (std::size_t at = 0; at < xml.size();) {
        if (xml[at] == '<') {
            const auto token = markup(xml, at);
            out += xml.substr(at, token.end - at);
            before = token.markup, at = token.end;
            continue;
        }
        const auto text = xml.substr(at, std::min(xml.find('<', at), xml.size()) - at);
        at += text.size();
        if (is_layout(text, before, xml.substr(at))) {
            const auto line = text.rfind('\n') + 1;
            out += text.substr(0, line);
            change(text.substr(line), out);
        } else {
            out += text;
        }
    }
    return out;
}

}  // namespace

std::string indented(std::string_view element, std::string_view blanks) {
    return each_line(element, [&](std::string_view lead, std::string& out) {
        out += blanks;
        out += lead;
    });
}

std::string without_indentation(std::string_view element, std::string_view blanks) {
    return each_line(element, [&](std::string_view lead, std::string& out) {
        out += lead.starts_with(blanks) ? lead.substr(blanks.size()) : lead;
    });
}

}  // namespace virtbus::xml
