// SPDX-License-Identifier: LGPL-2.1-or-later
// What the back ends that speak vhost-user have in common: the descriptors by which distributions tell of them, and how
// they answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "qemu/helpers/helper_unit.hpp"

namespace virtbus::qemu {

/// Programs of descriptors of that type ("fs", "gpu"), best first: by file name, the same name in a later folder wins,
/// an empty file masks.
std::vector<std::string> vhost_user_programs(Files& files, const std::vector<std::string>& folders,
                                             std::string_view type);

/// Asks the one question of the protocol that changes nothing. HypervisorFailed when no back end answers. Blocks.
void require_vhost_user(const Fd& fd, Duration patience);

}  // namespace virtbus::qemu
