// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/element_text.hpp"

#include <libxml/tree.h>

#include <memory>
#include <new>
#include <string_view>

#include "service/xml/indentation.hpp"
#include "service/xml/values.hpp"
#include "service/xml/writer.hpp"

namespace virtbus::xml {

namespace {

std::string_view view(const xmlChar* text) {
    return text ? reinterpret_cast<const char*>(text) : "";
}

void add_name(const xmlNs* ns, const xmlChar* name, std::string& out) {
    if (ns && ns->prefix) {
        out += view(ns->prefix);
        out += ':';
    }
    out += view(name);
}

void add_attributes(const xmlNode* node, std::string& out) {
    const auto value = [&](std::string_view text) { escape(text, true, out); };
    for (const auto* attribute = node->properties; attribute; attribute = attribute->next) {
        out += ' ';
        add_name(attribute->ns, attribute->name, out);
        out += "='";
        for (const auto* n = attribute->children; n; n = n->next) value(view(n->content));
        out += '\'';
    }
    for (const auto* ns = node->nsDef; ns; ns = ns->next) {
        out += ns->prefix ? " xmlns:" : " xmlns";
        out += view(ns->prefix);
        out += "='";
        value(view(ns->href));
        out += '\'';
    }
}

/// The document has bounded how deep this goes.
void add(const xmlNode* node, std::string& out) {
    switch (node->type) {
        case XML_ELEMENT_NODE:
            out += '<';
            add_name(node->ns, node->name, out);
            add_attributes(node, out);
            if (!node->children) {
                out += "/>";
                break;
            }
            out += '>';
            for (const auto* child = node->children; child; child = child->next) add(child, out);
            out += "</";
            add_name(node->ns, node->name, out);
            out += '>';
            break;
        case XML_TEXT_NODE:
            escape(view(node->content), false, out);
            break;
        case XML_CDATA_SECTION_NODE:
            out.append("<![CDATA[").append(view(node->content)).append("]]>");
            break;
        case XML_COMMENT_NODE:
            out.append("<!--").append(view(node->content)).append("-->");
            break;
        case XML_PI_NODE:
            out.append("<?").append(view(node->name));
            if (node->content) out.append(" ").append(view(node->content));
            out += "?>";
            break;
        default:
            break;
    }
}

/// The blanks between the start of the line and the element.
std::string_view indentation_of(const xmlNode* node) {
    if (!node->prev || node->prev->type != XML_TEXT_NODE) return {};
    const auto before = view(node->prev->content);
    const auto line = before.rfind('\n');
    return line != before.npos && trim(before.substr(line)).empty() ? before.substr(line + 1) : std::string_view{};
}

}  // namespace

std::string element_text(const _xmlNode* node, const char* name) {
    // A copy into a document of its own has the declarations of the namespaces it uses.
    const std::unique_ptr<xmlDoc, decltype(&xmlFreeDoc)> doc{xmlNewDoc(BAD_CAST "1.0"), xmlFreeDoc};
    xmlNode* copy = doc ? xmlDocCopyNode(const_cast<xmlNode*>(node), doc.get(), 1) : nullptr;
    if (!copy) throw std::bad_alloc{};
    xmlDocSetRootElement(doc.get(), copy);
    xmlNodeSetName(copy, BAD_CAST name);
    std::string text;
    add(copy, text);
    return without_indentation(text, indentation_of(node));
}

}  // namespace virtbus::xml
