// SPDX-License-Identifier: LGPL-2.1-or-later
// All snapshots of a domain as one document, and back: what an import comes to, whole or not at all. Nothing is read or
// written here.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "service/moments/index.hpp"
#include "service/moments/redefine.hpp"
#include "virtbus/model/moments.hpp"

namespace virtbus {

/// A document taken apart, no two snapshots of one name.
struct SnapshotSet {
    std::string current;
    std::vector<SnapshotConfig> snapshots;  ///< parents first, as far as they are in it
};
/// InvalidXML saying which of them is wrong, also for parents in a circle; LimitsExceeded. The document may be 256 MiB
/// long: for a worker.
SnapshotSet read_set(std::string_view document);

struct SnapshotImport {
    MomentIndex index;  ///< as it shall be
    struct Part {
        SnapshotConfig record;  ///< the body to be written
        Redefinition made;
    };
    std::vector<Part> parts;  ///< parents first
};
/// Everything is redefined, or the first Error is thrown. Parents may be in the set or in the index. `replaced` has
/// what there is of those that the index knows, `new_id` makes ids. The set's current snapshot becomes the index's only
/// when that has none.
SnapshotImport plan_import(const MomentIndex& index, SnapshotSet set, std::string_view uuid,
                           const std::map<std::string, Replaced>& replaced, const std::function<std::string()>& new_id);

}  // namespace virtbus
