// SPDX-License-Identifier: LGPL-2.1-or-later
// Title, description and the elements that programs keep in <metadata>, one per namespace.
#pragma once

#include <string>
#include <string_view>

#include "virtbus/model/domain.hpp"

namespace virtbus {

/// kind: "title", "description", or "element" with the namespace's uri. "" when there is none. InvalidArgs for other
/// kinds.
std::string read_metadata(const DomainConfig& config, std::string_view kind, std::string_view uri);

/// Sets, replaces, or with an empty value removes. An element that has no namespace is put into that of `uri`, with
/// `key` as its prefix. InvalidXML for what is not one well-formed element of that namespace.
void write_metadata(DomainConfig& config, const std::string& kind, const std::string& uri, const std::string& key,
                    const std::string& value);

/// The namespace of the element's root; "" for none.
std::string namespace_of(std::string_view element);

}  // namespace virtbus
