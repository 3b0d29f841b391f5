// SPDX-License-Identifier: LGPL-2.1-or-later
// What a wanted snapshot comes down to for a domain as it is: its kind, where each disk goes, which files are made.
// Pure; doing it is snapshot_create.cpp's work.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "service/moments/index.hpp"
#include "service/snapshots.hpp"
#include "virtbus/model/domain.hpp"
#include "virtbus/model/moments.hpp"
#include "virtbus/state.hpp"

namespace virtbus {

/// The domain at that moment.
struct SnapshotSubject {
    const DomainConfig& config;  ///< as it runs; as it is stored when it does not
    State state = State::shutoff;
    bool persistent = true;

    bool runs() const { return is_active(state); }
};

/// Options that exclude each other. ConflictingOptions.
void check_options(const SnapshotCreateOptions& options);

/// An entry with everything but its id; disks are those of the domain, in its order. `now`: microseconds since
/// the epoch, so that it is known what was made before what.
/// Conflicts of options and state, what the images cannot do: the errors of the contract, before anything is changed.
MomentEntry plan_snapshot(const SnapshotConfig& wanted, const SnapshotCreateOptions& options,
                          const SnapshotSubject& subject, std::uint64_t now);

/// The targets of the disks that go there.
std::vector<std::string> targets(const MomentEntry& entry, SnapshotPlace place);

/// The record of it: the whole XML but the definitions.
SnapshotConfig record_of(const MomentEntry& entry, const SnapshotConfig& wanted);

}  // namespace virtbus
