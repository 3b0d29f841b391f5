// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/document.hpp"

#include <fmt/format.h>
#include <libxml/SAX2.h>
#include <libxml/parser.h>
#include <libxml/tree.h>

#include <algorithm>
#include <mutex>

#include "service/xml/values.hpp"
#include "virtbus/error.hpp"

namespace virtbus::xml {

namespace {

[[noreturn]] void malformed(std::size_t line, const std::string& why) {
    throw Error{Code::invalid_xml, fmt::format("XML, line {}: {}", line, why)};
}
[[noreturn]] void too_large(const std::string& what, std::size_t allowed) {
    throw Error{Code::limits_exceeded, fmt::format("the XML has {}; at most {} are allowed", what, allowed)};
}

// ---- before libxml2 sees it ----------------------------------------------------------------------------------------

/// The length of the UTF-8 sequence at `at`, 0 when it is none.
std::size_t sequence_length(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const auto lead = byte(at);
    if (lead < 0x80) return 1;
    const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || at + length > text.size()) return 0;
    for (std::size_t i = 1; i < length; ++i)
        if ((byte(at + i) & 0xc0) != 0x80) return 0;
    const auto second = byte(at + 1);
    const bool overlong = (lead == 0xe0 && second < 0xa0) || (lead == 0xf0 && second < 0x90);
    const bool surrogate = lead == 0xed && second > 0x9f;
    return overlong || surrogate || (lead == 0xf4 && second > 0x8f) ? 0 : length;
}

/// Skips a quoted value, a comment, a CDATA section or a processing instruction that starts at `at`.
std::size_t skip_opaque(std::string_view text, std::size_t at) {
    constexpr std::pair<std::string_view, std::string_view> opaque[]{
        {"<!--", "-->"}, {"<![CDATA[", "]]>"}, {"<?", "?>"}};
    for (const auto& [open, close] : opaque) {
        if (!text.substr(at).starts_with(open)) continue;
        const auto end = text.find(close, at + open.size());
        return end == text.npos ? text.size() : end + close.size();
    }
    return at;
}

/// libxml2 compares each attribute of an element with all others: a tag with a million of them would hang it.
void bound_attributes(std::string_view text) {
    for (std::size_t at = text.find('<'); at != text.npos; at = text.find('<', at)) {
        if (const auto end = skip_opaque(text, at); end != at) {
            at = end;
            continue;
        }
        int attributes = 0;
        for (++at; at < text.size() && text[at] != '>'; ++at) {
            if (text[at] == '=' && ++attributes > most_attributes)
                too_large("an element with too many attributes", most_attributes);
            if (text[at] != '"' && text[at] != '\'') continue;
            at = text.find(text[at], at + 1);
            if (at == text.npos) return;
        }
    }
}

void check_text(std::string_view text, const Bounds& bounds) {
    if (text.size() > bounds.bytes) too_large(fmt::format("{} bytes", text.size()), bounds.bytes);
    std::size_t line = 1;
    for (std::size_t at = 0; at < text.size();) {
        const auto c = static_cast<unsigned char>(text[at]);
        if (c == '\n') ++line;
        if ((c < 0x20 && c != '\n' && c != '\t' && c != '\r') || c == 0x7f)
            malformed(line, fmt::format("control character 0x{:02x}; only line breaks and tabs are allowed", c));
        const auto length = sequence_length(text, at);
        if (length == 0) malformed(line, fmt::format("byte 0x{:02x} is not valid UTF-8", c));
        at += length;
    }
    bound_attributes(text);
}

// ---- parsing -------------------------------------------------------------------------------------------------------

/// What our callbacks saw; libxml2 is stopped at the first offence.
struct Watch {
    Bounds bounds;
    int depth = 0, elements = 0;
    std::string offence;
    bool limit = false;
};

void stop(xmlParserCtxt* context, std::string why, bool limit) {
    auto& watch = *static_cast<Watch*>(context->_private);
    if (watch.offence.empty()) watch.offence = std::move(why), watch.limit = limit;
    xmlStopParser(context);
}

void on_doctype(void* data, const xmlChar*, const xmlChar*, const xmlChar*) {
    stop(static_cast<xmlParserCtxt*>(data), "a document type (<!DOCTYPE>) is not allowed, nor are entities", false);
}

void on_start(void* data, const xmlChar* name, const xmlChar* prefix, const xmlChar* uri, int namespaces,
              const xmlChar** ns, int attributes, int defaulted, const xmlChar** values) {
    auto* context = static_cast<xmlParserCtxt*>(data);
    auto& watch = *static_cast<Watch*>(context->_private);
    if (++watch.depth > watch.bounds.depth)
        return stop(context, fmt::format("elements nested deeper than {}", watch.bounds.depth), true);
    if (++watch.elements > watch.bounds.elements)
        return stop(context, fmt::format("more than {} elements", watch.bounds.elements), true);
    xmlSAX2StartElementNs(data, name, prefix, uri, namespaces, ns, attributes, defaulted, values);
}

void on_end(void* data, const xmlChar* name, const xmlChar* prefix, const xmlChar* uri) {
    --static_cast<Watch*>(static_cast<xmlParserCtxt*>(data)->_private)->depth;
    xmlSAX2EndElementNs(data, name, prefix, uri);
}

void ignore_error(void*, xmlError*) {}

xmlDoc* parse(std::string_view text, const Bounds& bounds) {
    static std::once_flag once;
    std::call_once(once, [] { xmlInitParser(); });
    check_text(text, bounds);
    const std::unique_ptr<xmlParserCtxt, decltype(&xmlFreeParserCtxt)> context{xmlNewParserCtxt(), xmlFreeParserCtxt};
    if (!context) throw std::bad_alloc{};
    Watch watch{.bounds = bounds, .offence = {}};
    context->_private = &watch;
    context->sax->internalSubset = on_doctype;
    context->sax->startElementNs = on_start;
    context->sax->endElementNs = on_end;
    context->sax->serror = ignore_error;
    // Beyond its own limits libxml2 is bounded by ours alone.
    const int huge = bounds.bytes > largest_document ? XML_PARSE_HUGE : 0;
    xmlDoc* doc =
        xmlCtxtReadMemory(context.get(), text.data(), static_cast<int>(text.size()), nullptr, "UTF-8",
                          XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_BIG_LINES | huge);
    if (doc && watch.offence.empty()) return doc;
    xmlFreeDoc(doc);
    if (watch.limit) throw Error{Code::limits_exceeded, fmt::format("the XML has {}", watch.offence)};
    const auto& last = context->lastError;
    const auto line = static_cast<std::size_t>(std::max(1, last.line));
    if (!watch.offence.empty()) malformed(line, watch.offence);
    malformed(line, last.message ? std::string{trim(last.message)} : "the text is not XML");
}

std::string_view view(const xmlChar* text) {
    return text ? reinterpret_cast<const char*>(text) : "";
}

}  // namespace

Document::Document(std::string_view text, Bounds bounds) : doc_{parse(text, bounds), xmlFreeDoc} {}

_xmlNode* Document::root() const {
    return xmlDocGetRootElement(doc_.get());
}

_xmlNode* Document::require_root(std::string_view name) const {
    auto* node = root();
    if (const auto found = qualified_name(node); found != name || node->ns)
        malformed(line_of(node),
                  fmt::format("the root element is <{}>; <{}> without a namespace is needed", found, name));
    return node;
}

std::string qualified_name(const _xmlNode* node) {
    const auto* ns = node->ns;
    if (!ns) return std::string{view(node->name)};
    auto prefix = view(ns->prefix);
    for (const auto& known : {qemu_namespace, dnsmasq_namespace}) {
        if (view(ns->href) == known.uri)
            prefix = known.prefix;
        else if (prefix == known.prefix)
            prefix = {};
    }
    return prefix.empty() ? fmt::format("{{{}}}{}", view(ns->href), view(node->name))
                          : fmt::format("{}:{}", prefix, view(node->name));
}

std::size_t line_of(const _xmlNode* node) {
    return static_cast<std::size_t>(std::max(0L, xmlGetLineNo(node)));
}

std::string path_of(const _xmlNode* node) {
    std::string path;
    for (; node && node->type == XML_ELEMENT_NODE; node = node->parent) {
        int before = 0, after = 0;
        const auto same = [&](const xmlNode* other) {
            return other->type == XML_ELEMENT_NODE && xmlStrEqual(other->name, node->name);
        };
        for (auto* n = node->prev; n; n = n->prev) before += same(n);
        for (auto* n = node->next; n && !before; n = n->next) after += same(n);
        const auto step =
            before + after ? fmt::format("/{}[{}]", qualified_name(node), before + 1) : "/" + qualified_name(node);
        path.insert(0, step);
    }
    return path;
}

std::string verbatim_xml(_xmlNode* node) {
    // A copy into a document of its own carries the declarations of the namespaces it uses.
    const std::unique_ptr<xmlDoc, decltype(&xmlFreeDoc)> doc{xmlNewDoc(BAD_CAST "1.0"), xmlFreeDoc};
    const std::unique_ptr<xmlBuffer, decltype(&xmlBufferFree)> buffer{xmlBufferCreate(), xmlBufferFree};
    xmlNode* copy = doc ? xmlDocCopyNode(node, doc.get(), 1) : nullptr;
    if (!copy || !buffer) throw std::bad_alloc{};
    xmlDocSetRootElement(doc.get(), copy);
    xmlNodeDump(buffer.get(), doc.get(), copy, 0, 0);
    return std::string{view(xmlBufferContent(buffer.get()))};
}

}  // namespace virtbus::xml
