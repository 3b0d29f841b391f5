// SPDX-License-Identifier: LGPL-2.1-or-later
// Images that only QEMU reads, on servers above all. It is told that nothing lies below them; when such an image says
// otherwise its guest does not run: nobody opens what somebody's server names.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "qemu/command_line.hpp"

namespace virtbus::qemu {

/// The arguments of query-named-block-nodes.
nlohmann::json nodes_question();
/// UnsupportedConfiguration, naming the disk, when one of the images names another below it, or QEMU does not tell.
void require_alone(const std::vector<UnreadImage>& images, const nlohmann::json& nodes);
/// The end of the chain, as it is known now, in the live definition.
void close_chains(DomainConfig& config, const std::vector<UnreadImage>& images);

}  // namespace virtbus::qemu
