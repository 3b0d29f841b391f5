// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/announcer.hpp"

#include "dbus/checkpoint_interface.hpp"
#include "dbus/domain_interface.hpp"
#include "dbus/job_interface.hpp"
#include "dbus/network_interface.hpp"
#include "dbus/paths.hpp"
#include "dbus/server/answer.hpp"
#include "dbus/snapshot_interface.hpp"
#include "service/domain.hpp"
#include "service/jobs.hpp"
#include "service/networks.hpp"

namespace virtbus::dbus {

void Announcer::domain_added(Domain& domain) {
    signals_.added(domain_path(domain.view().uuid), &domain.view());
}

void Announcer::domain_changed(Domain& domain, const DomainView& before) {
    const DomainView& now = domain.view();
    const std::string path = domain_path(now.uuid);
    signals_.properties_changed(path, domain_interface, &before, &now);
    if (before.state != now.state)
        domain_signals::state_changed(signals_, path, std::string{word(before.state)}, std::string{word(now.state)},
                                      now.state_reason);
}

void Announcer::domain_event(Domain& domain, const DomainEvent& event) {
    const std::string path = domain_path(domain.view().uuid);
    using Kind = DomainEvent::Kind;
    switch (event.kind) {
        case Kind::rebooted:
            return domain_signals::rebooted(signals_, path);
        case Kind::device_added:
            return domain_signals::device_added(signals_, path, event.alias);
        case Kind::device_removed:
            return domain_signals::device_removed(signals_, path, event.alias);
        case Kind::device_removal_failed:
            return domain_signals::device_removal_failed(signals_, path, event.alias);
        case Kind::io_error:
            return domain_signals::io_error(signals_, path, event.alias, event.action, event.reason);
        case Kind::watchdog_fired:
            return domain_signals::watchdog_fired(signals_, path, event.action);
        case Kind::agent_changed:
            return domain_signals::agent_changed(signals_, path, event.connected);
    }
}

void Announcer::domain_removed(const DomainView& last) {
    signals_.removed(domain_path(last.uuid));
}

void Announcer::snapshot_added(Domain&, const SnapshotView& snapshot) {
    signals_.added(snapshot_path(snapshot.domain, snapshot.name), &snapshot);
}

void Announcer::snapshot_changed(Domain&, const SnapshotView& before, const SnapshotView& now) {
    signals_.properties_changed(snapshot_path(now.domain, now.name), snapshot_interface, &before, &now);
}

void Announcer::snapshot_removed(const std::string& domain_uuid, const SnapshotView& last) {
    signals_.removed(snapshot_path(domain_uuid, last.name));
}

void Announcer::checkpoint_added(Domain&, const CheckpointView& checkpoint) {
    signals_.added(checkpoint_path(checkpoint.domain, checkpoint.name), &checkpoint);
}

void Announcer::checkpoint_changed(Domain&, const CheckpointView& before, const CheckpointView& now) {
    signals_.properties_changed(checkpoint_path(now.domain, now.name), checkpoint_interface, &before, &now);
}

void Announcer::checkpoint_removed(const std::string& domain_uuid, const CheckpointView& last) {
    signals_.removed(checkpoint_path(domain_uuid, last.name));
}

void Announcer::network_added(Network& network) {
    signals_.added(network_path(network.view().uuid), &network.view());
}

void Announcer::network_changed(Network& network, const NetworkView& before) {
    const NetworkView& now = network.view();
    signals_.properties_changed(network_path(now.uuid), network_interface, &before, &now);
}

void Announcer::network_removed(const NetworkView& last) {
    signals_.removed(network_path(last.uuid));
}

void Announcer::job_added(Job& job) {
    signals_.added(job_path(job.id()), &job.view());
}

void Announcer::job_changed(Job& job, const JobView& before) {
    signals_.properties_changed(job_path(job.id()), job_interface, &before, &job.view());
}

void Announcer::job_completed(Job& job) {
    const JobView& view = job.view();
    job_signals::completed(signals_, job_path(job.id()), view.state == JobState::succeeded, error_name(view.error_word),
                           view.error_message);
}

void Announcer::job_removed(std::uint64_t id) {
    signals_.removed(job_path(id));
}

}  // namespace virtbus::dbus
