// SPDX-License-Identifier: LGPL-2.1-or-later
// CheckpointNote: whose bitmaps are being made or dissolved, for the daemon that comes after a crash.
#pragma once

#include <string>
#include <string_view>

#include "service/moments/index.hpp"

namespace virtbus {

struct CheckpointNote {
    enum class Verb { create, remove } verb = Verb::create;
    MomentEntry entry;  ///< its name, parent and disks
};
std::string encode(const CheckpointNote& note);
/// Internal, saying what is wrong.
CheckpointNote decode_checkpoint_note(std::string_view text);

}  // namespace virtbus
