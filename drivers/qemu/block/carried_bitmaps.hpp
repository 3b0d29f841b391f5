// SPDX-License-Identifier: LGPL-2.1-or-later
// The bitmaps of images that leave a chain: what they have recorded goes where the bytes go. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace virtbus::qemu {

/// A merge of images, by their nodes.
struct LeavingImages {
    std::vector<std::string> from;  ///< from the top down
    std::string into;
    /// `into` takes the place of the first of them: what records there records on in it.
    bool takes_place = false;
};

/// The actions of a transaction that has everything in `into`, given QEMU's answer to query-named-block-nodes. What
/// cannot be known any more, since a bitmap is inconsistent, is known to nobody afterwards, rather than in part.
nlohmann::json carried_bitmaps(const nlohmann::json& nodes, const LeavingImages& leaving);

}  // namespace virtbus::qemu
