// SPDX-License-Identifier: LGPL-2.1-or-later
// EventLog: an audience that writes what happens to domains and networks into the log, with the fields and the MESSAGE_ID of its
// kind, and hands everything on to the next audience.
#pragma once

#include "service/audience.hpp"
#include "virtbus/ports.hpp"

namespace virtbus {

class EventLog final : public Audience {
public:
    EventLog(Log& log, Audience& next) : log_{log}, next_{next} {}

    /// What is there at start-up is no news; from now on it is.
    void start() { started_ = true; }

    void domain_added(Domain& domain) override;
    void domain_changed(Domain& domain, const DomainView& before) override;
    void domain_event(Domain& domain, const DomainEvent& event) override;
    void domain_removed(const DomainView& last) override;
    void snapshot_added(Domain& domain, const SnapshotView& snapshot) override {
        next_.snapshot_added(domain, snapshot);
    }
    void snapshot_changed(Domain& domain, const SnapshotView& before, const SnapshotView& now) override {
        next_.snapshot_changed(domain, before, now);
    }
    void snapshot_removed(const std::string& domain_uuid, const SnapshotView& last) override {
        next_.snapshot_removed(domain_uuid, last);
    }
    void checkpoint_added(Domain& domain, const CheckpointView& checkpoint) override {
        next_.checkpoint_added(domain, checkpoint);
    }
    void checkpoint_changed(Domain& domain, const CheckpointView& before, const CheckpointView& now) override {
        next_.checkpoint_changed(domain, before, now);
    }
    void checkpoint_removed(const std::string& domain_uuid, const CheckpointView& last) override {
        next_.checkpoint_removed(domain_uuid, last);
    }
    void network_added(Network& network) override;
    void network_changed(Network& network, const NetworkView& before) override;
    void network_removed(const NetworkView& last) override { next_.network_removed(last); }

    void job_added(Job& job) override { next_.job_added(job); }
    void job_changed(Job& job, const JobView& before) override { next_.job_changed(job, before); }
    void job_completed(Job& job) override;
    void job_removed(std::uint64_t id) override { next_.job_removed(id); }

private:
    void write(const DomainView& domain, Priority priority, std::string_view message_id, const std::string& what);
    void state_changed(const DomainView& before, const DomainView& now);
    void activity(const NetworkView& network);

    Log& log_;
    Audience& next_;
    bool started_ = false;
};

}  // namespace virtbus
