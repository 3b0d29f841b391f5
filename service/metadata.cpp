// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/metadata.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <vector>

#include "service/definition.hpp"
#include "service/names.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

constexpr std::string_view blanks = " \t\r\n";

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(blanks);
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

std::string unescaped(std::string_view text) {
    static constexpr std::array<std::pair<std::string_view, char>, 5> entities{
        {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}}};
    std::string out;
    while (!text.empty()) {
        const auto found =
            std::find_if(entities.begin(), entities.end(), [&](auto& e) { return text.starts_with(e.first); });
        out += found == entities.end() ? text.front() : found->second;
        text.remove_prefix(found == entities.end() ? 1 : found->first.size());
    }
    return out;
}

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '&')
            out += "&amp;";
        else if (c == '<')
            out += "&lt;";
        else if (c == '\'')
            out += "&apos;";
        else
            out += c;
    }
    return out;
}

/// The start tag of an element that is known to be well-formed.
struct RootTag {
    std::string_view prefix, name, qualified;
    std::vector<std::pair<std::string_view, std::string_view>> attributes;
};

RootTag root_tag(std::string_view element) {
    RootTag tag;
    element = trimmed(element);
    if (!element.starts_with('<')) return tag;
    element.remove_prefix(1);
    tag.qualified = element.substr(0, element.find_first_of(" \t\r\n/>"));
    element.remove_prefix(tag.qualified.size());
    const auto colon = tag.qualified.find(':');
    tag.prefix = colon == tag.qualified.npos ? std::string_view{} : tag.qualified.substr(0, colon);
    tag.name = colon == tag.qualified.npos ? tag.qualified : tag.qualified.substr(colon + 1);
    for (;;) {
        element.remove_prefix(std::min(element.find_first_not_of(blanks), element.size()));
        const auto equals = element.find('='), end = element.find_first_of("/>");
        if (equals == element.npos || end < equals) return tag;
        const auto name = trimmed(element.substr(0, equals));
        element.remove_prefix(equals + 1);
        element.remove_prefix(std::min(element.find_first_not_of(blanks), element.size()));
        if (element.empty()) return tag;
        const auto close = element.find(element.front(), 1);
        if (close == element.npos) return tag;
        tag.attributes.emplace_back(name, element.substr(1, close - 1));
        element.remove_prefix(close + 1);
    }
}

/// <note>..</note> becomes <key:note xmlns:key='uri'>..</key:note>.
std::string with_namespace(std::string_view element, const RootTag& tag, const std::string& uri,
                           const std::string& key) {
    const auto name = std::string{tag.qualified};
    std::string text{element};
    const auto close = text.rfind("</" + name);
    if (close != text.npos) text.replace(close, 2 + name.size(), fmt::format("</{}:{}", key, name));
    text.replace(0, 1 + name.size(), fmt::format("<{}:{} xmlns:{}='{}'", key, name, key, escaped(uri)));
    return text;
}

bool is_prefix(std::string_view key) {
    return !key.empty() && key.size() <= 64 && !std::isdigit(static_cast<unsigned char>(key.front())) &&
           key.front() != '-' && !key.starts_with("xml") &&
           std::all_of(key.begin(), key.end(), [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; });
}

std::string one_element(const DomainConfig& config, const std::string& uri, const std::string& key,
                        std::string_view value) {
    auto probe = config;
    probe.metadata.assign(1, std::string{value});
    std::string text{value};
    auto ns = namespace_of(value);
    if (ns.empty()) {
        if (!is_prefix(key))
            throw Error{Code::invalid_args,
                        fmt::format("'{}' cannot be the prefix of an XML namespace", printable(key))};
        text = with_namespace(value, root_tag(value), uri, key);
        probe.metadata.front() = text;
        ns = uri;
    }
    // Written and read again, it must be exactly one element: nothing can break out of <metadata>.
    const auto back = understand(render(probe, {}), false).config;
    if (back.metadata.size() != 1 || back.name != config.name || back.uuid != config.uuid || back.os != config.os ||
        back.devices.disks != config.devices.disks)
        throw Error{Code::invalid_xml, "metadata must be one well-formed XML element"};
    if (ns != uri || namespace_of(back.metadata.front()) != uri)
        throw Error{Code::invalid_xml,
                    fmt::format("the element is of namespace '{}', not of '{}'", printable(ns), printable(uri))};
    return back.metadata.front();
}

}  // namespace

std::string namespace_of(std::string_view element) {
    const auto tag = root_tag(element);
    const auto declaration = tag.prefix.empty() ? std::string{"xmlns"} : fmt::format("xmlns:{}", tag.prefix);
    for (const auto& [name, value] : tag.attributes)
        if (name == declaration) return unescaped(value);
    return {};
}

std::string read_metadata(const DomainConfig& config, std::string_view kind, std::string_view uri) {
    if (kind == "title") return config.title;
    if (kind == "description") return config.description;
    if (kind != "element")
        throw Error{
            Code::invalid_args,
            fmt::format("'{}' is no kind of metadata; those there are: title, description, element", printable(kind))};
    for (const auto& element : config.metadata)
        if (namespace_of(element) == uri) return element;
    return {};
}

void write_metadata(DomainConfig& config, const std::string& kind, const std::string& uri, const std::string& key,
                    const std::string& value) {
    if (kind == "title" && value.find('\n') != value.npos)
        throw Error{Code::invalid_args, "a title is one line; newlines are not allowed"};
    (void)read_metadata(config, kind, uri);
    if (kind == "title") {
        config.title = value;
        return;
    }
    if (kind == "description") {
        config.description = value;
        return;
    }
    if (uri.empty()) throw Error{Code::invalid_args, "metadata of kind 'element' needs the uri of its namespace"};
    const auto same = [&](const std::string& element) { return namespace_of(element) == uri; };
    const auto element = trimmed(value);
    if (element.empty()) {
        std::erase_if(config.metadata, same);
        return;
    }
    auto text = one_element(config, uri, key, element);
    const auto there = std::find_if(config.metadata.begin(), config.metadata.end(), same);
    if (there == config.metadata.end())
        config.metadata.push_back(std::move(text));
    else
        *there = std::move(text);
}

}  // namespace virtbus
