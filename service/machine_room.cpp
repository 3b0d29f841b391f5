// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/machine_room.hpp"

#include "service/machines.hpp"

namespace virtbus {

struct MachineRoom::Parts {
    Parts(Ports& ports, std::vector<HypervisorDriver*> list, LinkProvider* links, Callers& callers, Audience& audience,
          Patience patience)
        : store{ports.workers, ports.files, ports.log, ports.folders, ports.boot_id},
          drivers{std::move(list)},
          jobs{ports.loop, ports.clock, ports.log, audience},
          machines{context},
          context{ports, store, jobs, audience, callers, drivers, links, machines, *scope, patience} {
        jobs.on_change([this](Job& job) {
            for (const auto& uuid : job.view().domains)
                if (const auto machine = machines.find_machine(uuid)) machine->refresh_jobs();
        });
    }
    /// Frames first: what they hold are the machines; then the machines, whose guests go on.
    ~Parts() {
        jobs.abandon();
        scope.reset();
        machines.forget();
    }

    std::optional<Scope> scope{std::in_place};
    Store store;
    Drivers drivers;
    Jobs jobs;
    Machines machines;
    Context context;
};

MachineRoom::MachineRoom(Ports& ports, std::vector<HypervisorDriver*> drivers, LinkProvider* links, Callers& callers,
                         Audience& audience, Patience patience)
    : parts_{std::make_unique<Parts>(ports, std::move(drivers), links, callers, audience, patience)} {}

MachineRoom::~MachineRoom() = default;

Jobs& MachineRoom::jobs() {
    return parts_->jobs;
}

Domains& MachineRoom::domains() {
    return parts_->machines;
}

Task<> MachineRoom::load() {
    co_await parts_->machines.load();
}

Task<> MachineRoom::autostart() {
    co_await parts_->machines.autostart();
}

Task<> MachineRoom::drain(Duration patience) {
    co_await parts_->jobs.drain(patience);
}

bool MachineRoom::idle() const {
    return !parts_->jobs.busy() && !parts_->machines.any_active();
}

}  // namespace virtbus
