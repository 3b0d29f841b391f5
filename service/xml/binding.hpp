// SPDX-License-Identifier: LGPL-2.1-or-later
// Walks a table: an element into a struct, a struct into text, two structs side by side. Knows no element by name.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "service/xml/document.hpp"
#include "service/xml/table.hpp"
#include "service/xml/writer.hpp"

struct _xmlNode;

namespace virtbus::xml {

/// Fills `object` from the element. InvalidXML with line and element for what breaks a rule of the table; what the
/// table does not know goes to the struct's Unknown and is described in `unknown` (path and line).
void read(const Table& table, _xmlNode* element, void* object, std::vector<std::string>& unknown);

struct WriteOptions {
    bool secure = false;                  ///< with secrets
    const Namespace* declared = nullptr;  ///< in the element
};
/// Writes <name> for `object`. True when a secret was left out.
bool write(const Table& table, std::string_view name, const void* object, WriteOptions options, Writer& writer);

/// The first guest-visible difference, e.g. "devices/disk[2]/target/@dev: 'vda' became 'vdb'".
std::optional<std::string> difference(const Table& table, const void* before, const void* after);

}  // namespace virtbus::xml
