// SPDX-License-Identifier: LGPL-2.1-or-later
// What a definition may want of a link of this host's; what would silently be left out is refused instead. Making links
// is links' work.
#pragma once

#include <string>
#include <string_view>

#include "virtbus/driver.hpp"
#include "virtbus/link_filters.hpp"

namespace virtbus::network {

/// A request, and what its filter comes to.
struct Wanted : LinkRequest {
    LinkFilterPtr filter;
};

/// For sentences: "interface 52:54:00:01:02:03 of domain 'web'".
std::string described(const LinkRequest& request);

/// A device that somebody else has made and keeps.
bool is_foreign(const LinkRequest& request);

/// Unsupported, naming the interface.
[[noreturn]] void refuse(const LinkRequest& request, std::string_view what);

/// Unsupported for what the definition wants of its link and this driver does not do.
void require_only_what_is_done(const Wanted& request);

}  // namespace virtbus::network
