// SPDX-License-Identifier: LGPL-2.1-or-later
// Hostile text becomes a tree or an Error: bounded in size, depth and width, UTF-8 without control characters, no DTD,
// no entities, no network. What the elements mean is left to binding.hpp. The only file that asks libxml2 to parse.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct _xmlDoc;
struct _xmlNode;

namespace virtbus::xml {

inline constexpr std::size_t largest_document = 8UL << 20;
inline constexpr int deepest_element = 64;
inline constexpr int most_elements = 200'000;
inline constexpr int most_attributes = 128;  ///< of one element

/// How much of it there may be.
struct Bounds {
    std::size_t bytes = largest_document;
    int depth = deepest_element, elements = most_elements;
};

class Document {
public:
    /// InvalidXML with the line for what is not well-formed, LimitsExceeded for what is too large.
    explicit Document(std::string_view text, Bounds bounds = {});

    _xmlNode* root() const;
    /// InvalidXML unless the root element is <name>.
    _xmlNode* require_root(std::string_view name) const;

private:
    std::unique_ptr<_xmlDoc, void (*)(_xmlDoc*)> doc_;
};

// ---- looking at nodes ----------------------------------------------------------------------------------------------

/// A namespace of libvirt's that tables name by its prefix.
struct Namespace {
    std::string_view prefix, uri;
};
inline constexpr Namespace qemu_namespace{"qemu", "http://libvirt.org/schemas/domain/qemu/1.0"};
inline constexpr Namespace dnsmasq_namespace{"dnsmasq", "http://libvirt.org/schemas/network/dnsmasq/1.0"};

/// The name with its prefix; those namespaces have theirs, however the document calls them, and nobody else has it.
std::string qualified_name(const _xmlNode* node);
std::size_t line_of(const _xmlNode* node);
/// "/domain/devices/disk[2]"
std::string path_of(const _xmlNode* node);
/// The element as it stands in the document, with the namespaces it needs.
std::string verbatim_xml(_xmlNode* node);

}  // namespace virtbus::xml
