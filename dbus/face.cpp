// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/face.hpp"

#include <unistd.h>

#include <optional>

#include "dbus/announcer.hpp"
#include "dbus/backup_object.hpp"
#include "dbus/checkpoint_object.hpp"
#include "dbus/domain_object.hpp"
#include "dbus/job_object.hpp"
#include "dbus/manager_object.hpp"
#include "dbus/network_object.hpp"
#include "dbus/paths.hpp"
#include "dbus/server/bus_connection.hpp"
#include "dbus/server/peers.hpp"
#include "dbus/snapshot_object.hpp"

namespace virtbus::dbus {

namespace {

PeerOptions peer_options(bool system_mode) {
    PeerOptions options;
    options.service = bus_name;
    if (!system_mode) options.only_uid = ::getuid();
    return options;
}

}  // namespace

struct Face::Parts {
    Parts(Loop& on, Log& to, PermissionCheck check, std::string release, bool system)
        : loop{on},
          version{std::move(release)},
          system_mode{system},
          dispatcher{on, to, root_path, std::move(check)},
          signals{to, dispatcher.tree()},
          announcer{signals},
          peers{dispatcher, signals, on, to, peer_options(system)} {}

    Loop& loop;
    std::string version;
    bool system_mode;
    std::optional<ManagerObject> manager;
    std::optional<DomainObject> domain;
    std::optional<BackupObject> backup;
    std::optional<SnapshotObject> snapshot;
    std::optional<CheckpointObject> checkpoint;
    std::optional<NetworkObject> network;
    std::optional<JobObject> job;
    Dispatcher dispatcher;
    Signals signals;
    Announcer announcer;
    Peers peers;
    std::shared_ptr<BusConnection> bus;
};

Face::Face(Loop& loop, Log& log, PermissionCheck check, std::string version, bool system_mode)
    : parts_{std::make_unique<Parts>(loop, log, std::move(check), std::move(version), system_mode)} {
    parts_->dispatcher.presence().expect_earlier_callers();
}

Face::~Face() {
    close();
}

Audience& Face::audience() {
    return parts_->announcer;
}
Callers& Face::callers() {
    return parts_->dispatcher.presence();
}

void Face::present(Domains& domains, Networks& networks, Jobs& jobs, Workers& workers) {
    Tree& tree = parts_->dispatcher.tree();
    tree.add("", parts_->manager.emplace(domains, networks, jobs, parts_->version, parts_->system_mode));
    tree.add("domain/*", parts_->domain.emplace(domains, jobs, workers));
    tree.extend("domain/*", backup_interface, &static_cast<BackupMethods&>(parts_->backup.emplace(domains, jobs)));
    tree.add("domain/*/snapshot/*", parts_->snapshot.emplace(domains, jobs));
    tree.add("domain/*/checkpoint/*", parts_->checkpoint.emplace(domains, jobs));
    tree.add("network/*", parts_->network.emplace(networks, jobs));
    tree.add("job/*", parts_->job.emplace(jobs, domains, networks));
}

void Face::serve_bus(std::function<void(std::string)> lost) {
    BusOptions options{parts_->system_mode, bus_name, {}};
    if (!parts_->system_mode) options.assumed_uid = ::getuid();
    parts_->bus =
        std::make_shared<BusConnection>(parts_->dispatcher, parts_->loop, std::move(options), std::move(lost));
    parts_->bus->own_name();
    parts_->signals.join(*parts_->bus);
}

void Face::serve_socket(Fd listening) {
    parts_->peers.listen(std::move(listening));
}

void Face::serve_socket(const std::string& path) {
    constexpr unsigned everybody = 0666, owner = 0600;
    parts_->peers.listen(path, parts_->system_mode ? everybody : owner);
}

bool Face::idle() const {
    return parts_->peers.empty() && !parts_->dispatcher.busy() && parts_->dispatcher.presence().empty();
}

void Face::retire() {
    parts_->peers.stop_listening();
    if (parts_->bus) parts_->bus->release_name();
}

void Face::close() {
    // The calls under way first: they stand on everything else.
    parts_->dispatcher.drop_all();
    parts_->peers.close();
    if (parts_->bus) parts_->signals.leave(*parts_->bus);
    parts_->bus.reset();
}

}  // namespace virtbus::dbus
