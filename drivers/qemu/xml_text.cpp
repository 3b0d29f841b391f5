// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/xml_text.hpp"

#include <fmt/format.h>

namespace virtbus::qemu {

namespace {
std::string escape(std::string_view text) {
    std::string result;
    for (const char c : text) {
        if (c == '&')
            result += "&amp;";
        else if (c == '<')
            result += "&lt;";
        else if (c == '>')
            result += "&gt;";
        else if (c == '\'')
            result += "&apos;";
        else
            result += c;
    }
    return result;
}
}  // namespace

void XmlText::open(std::string_view name, const Attributes& attributes) {
    text_.append(static_cast<std::size_t>(depth_) * 2, ' ');
    text_ += fmt::format("<{}", name);
    for (const auto& [key, value] : attributes) text_ += fmt::format(" {}='{}'", key, escape(value));
}

void XmlText::element(std::string_view name, const Attributes& attributes) {
    open(name, attributes);
    text_ += "/>\n";
}

void XmlText::element(std::string_view name, const Attributes& attributes, std::string_view text) {
    open(name, attributes);
    text_ += fmt::format(">{}</{}>\n", escape(text), name);
}

void XmlText::element(std::string_view name, const Attributes& attributes, const std::function<void()>& content) {
    open(name, attributes);
    text_ += ">\n";
    ++depth_;
    content();
    --depth_;
    text_.append(static_cast<std::size_t>(depth_) * 2, ' ');
    text_ += fmt::format("</{}>\n", name);
}

}  // namespace virtbus::qemu
