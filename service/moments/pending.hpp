// SPDX-License-Identifier: LGPL-2.1-or-later
// Pending: what a verb on snapshots is doing, as a note for the daemon that comes after a crash. What follows from it
// is each verb's knowledge.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "service/moments/index.hpp"
#include "virtbus/model/chain.hpp"

namespace virtbus {

struct Pending {
    enum class Verb { create, remove, revert, tidy } verb = Verb::create;
    std::string name;
    std::optional<MomentEntry> entry;  ///< create: as it shall be; revert: whose disks have the fresh overlays
    bool running = false;              ///< the CPUs ran
    bool active = false;               ///< there was a guest
    bool frozen = false;               ///< create: by the agent, perhaps
    bool keep_overlays = false;        ///< create: they were there before
    bool unrecorded = false;           ///< create: no snapshot is to be recorded
    std::string temporary;             ///< create: of the file for the memory
    std::string tag;                   ///< revert, tidy: of the safety snapshots; "" = none
    std::vector<ImageFile> images;     ///< revert: that have it; remove, tidy: that nobody needs any more
    std::string definition;            ///< revert: the stored definition before it
};

std::string encode(const Pending& pending);
/// Internal, saying what is wrong.
Pending decode_pending(std::string_view text);

}  // namespace virtbus
