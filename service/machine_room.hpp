// SPDX-License-Identifier: LGPL-2.1-or-later
// MachineRoom: the service put together, for whoever wires the daemon. Made from the ports, the drivers and the faces;
// loaded once; drained before the process ends.
#pragma once

#include <memory>
#include <vector>

#include "service/context.hpp"
#include "service/domains.hpp"
#include "service/jobs.hpp"
#include "service/networks.hpp"

namespace virtbus {

class MachineRoom {
public:
    /// `links` makes the links of interfaces that are on no virtual network, and what those of networks come down to.
    /// It and `networks` may be null. All that is given must outlive the room.
    MachineRoom(Ports& ports, std::vector<HypervisorDriver*> drivers, LinkProvider* links, NetworkDriver* networks,
                Callers& callers, Audience& audience, Patience patience = {});
    ~MachineRoom();

    Jobs& jobs();
    Domains& domains();
    Networks& networks();

    /// Reads what is stored and takes up what runs. The audience is not told of the domains and
    /// networks found, only of what changes with them.
    Task<> load();
    /// Starts what shall start with the host; does nothing when that has been done since boot.
    Task<> autostart();
    /// Returns when no verb is under way; for a process about to end.
    Task<> drain(Duration patience);
    /// Nothing runs: no domain, no network, no job.
    bool idle() const;

private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

}  // namespace virtbus
