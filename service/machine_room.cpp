// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/machine_room.hpp"

#include <fmt/format.h>

#include "service/machines.hpp"
#include "service/networking/network_links.hpp"
#include "service/networking/network_list.hpp"
#include "service/networking/network_store.hpp"

namespace virtbus {

struct MachineRoom::Parts {
    Parts(Ports& ports, std::vector<HypervisorDriver*> list, LinkProvider* links, NetworkDriver* driver,
          Callers& callers, Audience& audience, Patience patience)
        : store{ports.workers, ports.files, ports.log, ports.folders, ports.boot_id},
          drivers{std::move(list)},
          jobs{ports.loop, ports.clock, ports.log, audience},
          network_store{ports.files, ports.log, ports.folders, ports.boot_id},
          networks{network_context},
          network_links{network_context, networks, links},
          network_context{ports, network_store, jobs, audience, driver, networks, network_links, *scope, patience},
          machines{context},
          context{ports,    store,  jobs,    audience, callers, drivers, links ? &network_links : nullptr,
                  machines, *scope, patience} {
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
        networks.forget();
    }

    std::optional<Scope> scope{std::in_place};
    Store store;
    Drivers drivers;
    Jobs jobs;
    NetworkStore network_store;
    NetworkList networks;
    NetworkLinks network_links;
    NetworkContext network_context;
    Machines machines;
    Context context;
};

MachineRoom::MachineRoom(Ports& ports, std::vector<HypervisorDriver*> drivers, LinkProvider* links,
                         NetworkDriver* networks, Callers& callers, Audience& audience, Patience patience)
    : parts_{std::make_unique<Parts>(ports, std::move(drivers), links, networks, callers, audience, patience)} {}

MachineRoom::~MachineRoom() = default;

Jobs& MachineRoom::jobs() {
    return parts_->jobs;
}

Domains& MachineRoom::domains() {
    return parts_->machines;
}

Networks& MachineRoom::networks() {
    return parts_->networks;
}

/// Networks first: guests are on them.
Task<> MachineRoom::load() {
    co_await parts_->networks.load();
    co_await parts_->machines.load();
    co_await parts_->machines.reconnect();
    co_await parts_->networks.guests_are_known();
    try {
        co_await parts_->network_links.links_are_known(in(parts_->context.patience.verb));
    } catch (const std::exception& error) {
        parts_->context.ports.log.debug(fmt::format("Filters of interfaces are left as they are: {}", error.what()));
    }
}

Task<> MachineRoom::autostart() {
    co_await parts_->networks.autostart();
    co_await parts_->machines.autostart();
}

Task<> MachineRoom::drain(Duration patience) {
    co_await parts_->jobs.drain(patience);
}

bool MachineRoom::idle() const {
    return !parts_->jobs.busy() && !parts_->machines.any_active() && !parts_->networks.any_active();
}

}  // namespace virtbus
