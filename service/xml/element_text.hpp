// SPDX-License-Identifier: LGPL-2.1-or-later
// An element of a document as text that stands alone, in the hand that Writer writes.
#pragma once

#include <string>

struct _xmlNode;

namespace virtbus::xml {

/// With the namespaces it needs, at the left margin, its root named `name`.
std::string element_text(const _xmlNode* node, const char* name);

}  // namespace virtbus::xml
