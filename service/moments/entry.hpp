// SPDX-License-Identifier: LGPL-2.1-or-later
// From a complete XML to the entry in the index: what can be told of a moment from what was written down of it. Which
// of it is allowed is left to the verbs.
#pragma once

#include <optional>

#include "service/moments/index.hpp"
#include "virtbus/model/domain.hpp"
#include "virtbus/model/moments.hpp"

namespace virtbus {

/// `domain`: the definition inside, when there is one that can be read. No id; the parent as named; the largest time
/// for one that is beyond what can be counted in microseconds.
MomentEntry entry_of(const SnapshotConfig& config, const DomainConfig* domain);
MomentEntry entry_of(const CheckpointConfig& config, const DomainConfig* domain);

/// What a snapshot of that state with these places is.
SnapshotKind kind_of(const SnapshotConfig& config);

}  // namespace virtbus
