// SPDX-License-Identifier: LGPL-2.1-or-later
// Behaviour: how a test domain shall behave or misbehave, read from its definition:
//
//   <metadata>
//     <test:behaviour xmlns:test='http://virtbus.org/domain/test/1.0' start-delay-ms='500' hang-shutdown='yes'/>
//   </metadata>
#pragma once

#include <cstdint>
#include <string>

#include "virtbus/loop.hpp"
#include "virtbus/model/domain.hpp"

namespace virtbus::test_driver {

inline constexpr const char* behaviour_namespace = "http://virtbus.org/domain/test/1.0";

/// The members are the attributes, with '-' for '_'. Durations are in milliseconds and end in -ms.
struct Behaviour {
    Duration start_delay{20};      ///< start-delay-ms: until the guest runs
    Duration shutdown_delay{100};  ///< shutdown-delay-ms: from the request to the end
    Duration die_after{0};         ///< die-after-ms: it crashes by itself so long after its start; 0 = never
    Duration ignore_kill_for{0};   ///< ignore-kill-ms: a killed guest stays so long
    std::string fail_start;        ///< fail-start: the start fails with this message
    std::string fail_save;         ///< fail-save: half of the state is written, then it fails with this message
    std::string fail_restore;      ///< fail-restore: a start from a saved state fails with this message
    Duration save_time{0};         ///< save-ms: how long writing the state takes
    bool hang_save = false;        ///< hang-save: the save stops half-way and never ends, but can be cancelled
    bool hang_start = false;       ///< hang-start: the start never ends, but can be cancelled
    bool hang_shutdown = false;    ///< hang-shutdown: the guest ignores the request to shut down
    bool hang_verbs = false;       ///< hang-verbs: suspend, resume, ... never return, and do not heed a cancellation
    bool unresponsive = false;     ///< unresponsive: statistics never come
    bool ignore_kill = false;      ///< ignore-kill: a killed guest stays
    bool fail_adopt = false;       ///< fail-adopt: the next daemon cannot take it up
    std::string fail_attach;       ///< fail-attach: plugging and changing a device fails with this message
    bool hang_attach = false;      ///< hang-attach: it never ends, but can be cancelled
    std::string unplug;            ///< unplug: "refuse", or "ignore" the request to give a device up; else obeys
    Duration unplug_delay{0};      ///< unplug-delay-ms: until a device is given up
    Duration unplug_wait{5000};    ///< unplug-wait-ms: how long a detach waits for that
    bool take_devices = false;     ///< take-devices: PCI devices of the host are really taken for it
    Duration snapshot_time{0};     ///< snapshot-ms: how long a snapshot, a merge or a backup takes
    bool hang_snapshot = false;    ///< hang-snapshot: these stop half-way and never end, but can be cancelled
    std::string fail_snapshot;     ///< fail-snapshot: half-way a snapshot of the running guest fails with this message
    std::string fail_revert;       ///< fail-revert: half-way going back to one does
    std::string fail_merge;        ///< fail-merge: half-way merging the images of a disk does
    std::string fail_backup;       ///< fail-backup: half-way writing a backup does
    std::string agent;             ///< agent: "none", "silent" or "fails" to freeze; else it answers, on its channel
    bool open_disks = false;       ///< open-disks: the files of its disks are opened, and must be there
};

/// UnsupportedConfiguration for an attribute that is unknown or has an impossible value.
Behaviour behaviour_of(const DomainConfig& config);

}  // namespace virtbus::test_driver
