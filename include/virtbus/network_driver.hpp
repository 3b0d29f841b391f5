// SPDX-License-Identifier: LGPL-2.1-or-later
// The contract between service/ and the driver of virtual networks: a network is started, adopted, changed and taken
// down; what runs reports leases and the state of its servers. Who uses the network and what is on disk is service's
// knowledge; links of guests are driver.hpp's. All calls are made on the main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "virtbus/ip.hpp"
#include "virtbus/loop.hpp"
#include "virtbus/model/network.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

struct DhcpLease {
    std::string mac;  ///< "" for an IPv6 lease whose client did not say
    std::string address;
    std::uint32_t prefix = 0;
    std::string hostname;       ///< "" when it gave none
    std::string client_id;      ///< DUID and IAID for IPv6
    std::uint64_t expires = 0;  ///< microseconds since the epoch; 0: never
    bool operator==(const DhcpLease&) const = default;
};

/// What an active network tells its owner. Called from the loop.
class NetworkEvents {
public:
    virtual ~NetworkEvents() = default;
    /// driver_state() is another one now and has to be recorded.
    virtual void state_moved() = 0;
    virtual void leases_changed() = 0;
    /// Why DHCP and DNS are not served any more; "" when they are again.
    virtual void problem_changed(std::string problem) = 0;
};

/// The part of the network's bandwidth that is kept for one guest.
struct PortClass {
    std::uint32_t id = 0;  ///< of the class, from 3; 1 and 2 are the network's own
    std::string mac;       ///< of the guest's card
    BandwidthLimit limit;  ///< with its floor
    bool operator==(const PortClass&) const = default;
};

/// One active network. Destroying the object forgets it and leaves everything in place.
class RunningNetwork {
public:
    virtual ~RunningNetwork() = default;

    /// What adopt() and undo() need, as one opaque, versioned string.
    virtual std::string driver_state() const = 0;
    /// As it runs: MAC and the rest filled in.
    virtual const NetworkConfig& config() const = 0;
    /// From memory.
    virtual std::vector<DhcpLease> leases() const = 0;
    /// Why DHCP and DNS are not served; "" when they are, or nobody wants them.
    virtual std::string problem() const = 0;

    /// Makes it what `config` says, touching only what differs. When it throws, it is what it was before as far as
    /// that can be had again. Also repairs rules that somebody else has taken away.
    virtual Task<> update(NetworkConfig config, Deadline deadline) = 0;
    /// Keeps bandwidth for a guest; a class that is there already is replaced.
    virtual Task<> add_class(PortClass port, Deadline deadline) = 0;
    /// One that is gone already is no error.
    virtual Task<> remove_class(std::uint32_t id, Deadline deadline) = 0;
    /// Takes down all that driver_state() records. What is gone already is no error.
    virtual Task<> stop(Deadline deadline) = 0;
};

/// A device of the host as far as networks have to know it.
struct HostLink {
    std::string name;
    bool bridge = false;
};
struct HostRoute {
    IpNet destination;
    std::string device;
};
/// The host's network configuration at one moment.
struct HostNetworks {
    std::vector<HostLink> links;
    std::vector<HostRoute> routes;  ///< without default routes; what an address of the host makes is among them
};

struct NetworkStartRequest {
    NetworkConfig config;  ///< with name, UUID, bridge name and MAC
    NetworkEvents& events;
    Deadline deadline;
    std::stop_token stop;
    /// To be told what undo() needs each time before that grows. May throw: then nothing more is done.
    std::function<void(std::string driver_state)> unfinished = [](auto&&) {};
};

/// A virtual function of a network card.
struct CardFunction {
    HostPciAddress address;
    std::string device;  ///< its network device; "" when it has none at the moment
};

class NetworkDriver {
public:
    virtual ~NetworkDriver() = default;

    virtual Task<HostNetworks> look(Deadline deadline) = 0;
    /// What of the definition this host cannot do; one sentence each.
    virtual std::vector<std::string> unsupported(const NetworkConfig& config) = 0;
    /// Everything that could be in the way is looked for before the first change; nothing is left when it throws.
    /// AlreadyExists for a bridge that is there already, UnsupportedConfiguration for addresses that the host has or
    /// routes elsewhere and for servers that hold them, each naming what was found.
    virtual Task<std::unique_ptr<RunningNetwork>> start(NetworkStartRequest request) = 0;
    /// Takes up a network of an earlier daemon; nullptr when its bridge is gone. A dnsmasq that ended meanwhile is
    /// started again, missing rules are made again.
    virtual Task<std::unique_ptr<RunningNetwork>> adopt(NetworkConfig config, std::string driver_state,
                                                        NetworkEvents& events, Deadline deadline) = 0;
    /// Takes down what is recorded of a network that nobody runs. An empty state is that of another program's record:
    /// what is undone then is the bridge of the definition. What is gone already is no error.
    virtual Task<> undo(NetworkConfig config, std::string driver_state, Deadline deadline) = 0;
    /// The virtual functions of a network card, in the order of their numbers, for pools that name the card only.
    virtual Task<std::vector<CardFunction>> functions_of(std::string card, Deadline deadline) = 0;
};

}  // namespace virtbus
