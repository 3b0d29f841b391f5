// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/indentation.hpp"

#include <algorithm>

#include "service/xml/markup.hpp"
#include "service/xml/values.hpp"

namespace virtbus::xml {

namespace {

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
            const auto token = markup_at(xml, at);
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
