// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/writer.hpp"

namespace virtbus::xml {

void escape(std::string_view value, bool attribute, std::string& out) {
    for (char c : value) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '\'':
                out += "&apos;";
                break;
            case '"':
                out += "&quot;";
                break;
            case '\r':
                out += "&#13;";
                break;
            // An attribute's blanks would come back as spaces.
            case '\n':
                attribute ? out += "&#10;" : out += c;
                break;
            case '\t':
                attribute ? out += "&#9;" : out += c;
                break;
            default:
                out += c;
        }
    }
}

void Writer::indent() {
    out_.append(2 * (frames_.size() - 1), ' ');
}

void Writer::keep() {
    for (std::size_t level = 0; level < frames_.size(); ++level) {
        auto& frame = frames_[level];
        if (frame.written) continue;
        if (level > 0) {
            auto& parent = frames_[level - 1];
            if (!parent.children) out_ += parent.text ? "\n" : ">\n";
            parent.children = true;
        }
        out_.append(2 * level, ' ');
        out_ += '<';
        out_ += frame.name;
        frame.written = true;
    }
}

void Writer::open(std::string_view name) {
    frames_.push_back({name});
}

void Writer::attribute(std::string_view name, std::string_view value) {
    keep();
    out_ += ' ';
    out_ += name;
    out_ += "='";
    escape(value, true, out_);
    out_ += '\'';
}

void Writer::text(std::string_view value) {
    keep();
    auto& frame = frames_.back();
    if (!frame.text && !frame.children) out_ += '>';
    frame.text = true;
    escape(value, false, out_);
}

void Writer::verbatim(std::string_view xml) {
    keep();
    auto& frame = frames_.back();
    if (!frame.children) out_ += frame.text ? "\n" : ">\n";
    frame.children = true;
    out_.append(2 * frames_.size(), ' ');
    out_ += xml;
    out_ += '\n';
}

void Writer::close(bool keep_empty) {
    if (keep_empty) keep();
    const auto frame = frames_.back();
    if (frame.written) {
        if (frame.children) {
            indent();
            out_ += "</";
        } else {
            out_ += frame.text ? "</" : "/>\n";
        }
        if (frame.children || frame.text) {
            out_ += frame.name;
            out_ += ">\n";
        }
    }
    frames_.pop_back();
}

}  // namespace virtbus::xml
