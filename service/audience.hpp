// SPDX-License-Identifier: LGPL-2.1-or-later
// Whoever is told about changes: the faces on the buses. Told after the change is recorded on disk and before the verb
// that caused it returns.
#pragma once

#include <cstdint>
#include <string>

#include "service/views.hpp"

namespace virtbus {

class Domain;
class Job;
class Network;
struct CheckpointView;
struct SnapshotView;

/// The domain's signals of the contract that carry arguments of their own.
struct DomainEvent {
    enum class Kind {
        rebooted,
        device_added,
        device_removed,
        device_removal_failed,
        io_error,
        watchdog_fired,
        agent_changed
    };
    Kind kind;
    std::string alias{}, action{}, reason{};
    bool connected = false;
};

class Audience {
public:
    virtual ~Audience() = default;
    virtual void domain_added(Domain& domain) = 0;
    /// One or more fields of the view differ from `before`; a changed state also makes the StateChanged signal.
    virtual void domain_changed(Domain& domain, const DomainView& before) = 0;
    virtual void domain_event(Domain& domain, const DomainEvent& event) = 0;
    /// Last: the domain's uuid is unknown from now on. Its snapshots and checkpoints are removed before.
    virtual void domain_removed(const DomainView& last) = 0;

    virtual void snapshot_added(Domain& domain, const SnapshotView& snapshot) = 0;
    /// One or more fields differ.
    virtual void snapshot_changed(Domain& domain, const SnapshotView& before, const SnapshotView& now) = 0;
    virtual void snapshot_removed(const std::string& domain_uuid, const SnapshotView& last) = 0;
    virtual void checkpoint_added(Domain& domain, const CheckpointView& checkpoint) = 0;
    virtual void checkpoint_changed(Domain& domain, const CheckpointView& before, const CheckpointView& now) = 0;
    virtual void checkpoint_removed(const std::string& domain_uuid, const CheckpointView& last) = 0;

    virtual void network_added(Network& network) = 0;
    /// One or more fields of the view differ from `before`.
    virtual void network_changed(Network& network, const NetworkView& before) = 0;
    /// Last: the network's uuid is unknown from now on.
    virtual void network_removed(const NetworkView& last) = 0;

    virtual void job_added(Job& job) = 0;
    virtual void job_changed(Job& job, const JobView& before) = 0;
    /// The job's end, after its last job_changed.
    virtual void job_completed(Job& job) = 0;
    virtual void job_removed(std::uint64_t id) = 0;
};

}  // namespace virtbus
