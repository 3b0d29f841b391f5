// SPDX-License-Identifier: LGPL-2.1-or-later
// The service's audience: makes a signal of each change it is told.
#pragma once

#include "dbus/server/signals.hpp"
#include "service/audience.hpp"

namespace virtbus::dbus {

class Announcer final : public Audience {
public:
    explicit Announcer(Signals& signals) : signals_{signals} {}

    void domain_added(Domain& domain) override;
    void domain_changed(Domain& domain, const DomainView& before) override;
    void domain_event(Domain& domain, const DomainEvent& event) override;
    void domain_removed(const DomainView& last) override;

    void snapshot_added(Domain& domain, const SnapshotView& snapshot) override;
    void snapshot_changed(Domain& domain, const SnapshotView& before, const SnapshotView& now) override;
    void snapshot_removed(const std::string& domain_uuid, const SnapshotView& last) override;
    void checkpoint_added(Domain& domain, const CheckpointView& checkpoint) override;
    void checkpoint_changed(Domain& domain, const CheckpointView& before, const CheckpointView& now) override;
    void checkpoint_removed(const std::string& domain_uuid, const CheckpointView& last) override;

    void network_added(Network& network) override;
    void network_changed(Network& network, const NetworkView& before) override;
    void network_removed(const NetworkView& last) override;

    void job_added(Job& job) override;
    void job_changed(Job& job, const JobView& before) override;
    void job_completed(Job& job) override;
    void job_removed(std::uint64_t id) override;

private:
    Signals& signals_;
};

}  // namespace virtbus::dbus
