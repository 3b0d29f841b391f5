// SPDX-License-Identifier: LGPL-2.1-or-later
// What the tree of network filters below a <filterref> comes to for one interface: variables replaced, references
// followed, rules sorted. Pure and bounded; where definitions are is filters.hpp's knowledge.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "virtbus/model/network_filter.hpp"

namespace virtbus {

inline constexpr std::size_t deepest_filter = 16;    ///< of filters that refer to each other
inline constexpr std::size_t most_references = 512;  ///< followed for one interface
inline constexpr std::size_t most_filter_rules = 4096;
inline constexpr std::size_t most_filter_values = 1024;  ///< of one variable

/// May throw for one that there is not.
using GetFilter = std::function<const NetworkFilter&(const std::string& name)>;

/// The interface has a filterref and a MAC. UnsupportedConfiguration, naming filter, attribute and variable.
LinkFilter resolve_filter(const Interface& interface, const GetFilter& get);

}  // namespace virtbus
