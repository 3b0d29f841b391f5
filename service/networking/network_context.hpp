// SPDX-License-Identifier: LGPL-2.1-or-later
// What a virtual network and the list of networks work with, bundled for handing on. Owns nothing.
#pragma once

#include "service/audience.hpp"
#include "service/context.hpp"
#include "service/jobs.hpp"
#include "service/networking/network_store.hpp"
#include "virtbus/network_driver.hpp"
#include "virtbus/ports.hpp"

namespace virtbus {

class VirtualNetwork;

/// What a network asks of the list it is in.
class NetworkDirectory {
public:
    virtual ~NetworkDirectory() = default;
    /// UnsupportedConfiguration naming the other active network that has one of its addresses.
    virtual void require_no_overlap(const NetworkConfig& config, const VirtualNetwork& but) const = 0;
    /// Gives it the name of a bridge where it needs one; nobody else gets that name until claim_bridge({}).
    /// AlreadyExists when another network has the name it asks for.
    virtual Task<NetworkConfig> with_bridge(std::shared_ptr<VirtualNetwork> network, NetworkConfig config) = 0;
    /// It is gone: found by nobody any more.
    virtual void remove(VirtualNetwork& network) = 0;
};

/// Those whose interfaces are on networks.
class NetworkGuests {
public:
    virtual ~NetworkGuests() = default;
    /// Puts the links of all its guests onto a network that came anew. Never throws.
    virtual Task<> reconnect(std::shared_ptr<VirtualNetwork> network) = 0;
    /// Somebody has that place.
    virtual bool has(const std::string& port_id) const = 0;
};

struct NetworkContext {
    Ports& ports;
    NetworkStore& store;
    Jobs& jobs;
    Audience& audience;
    NetworkDriver* driver;  ///< null: networks can be defined, not started
    NetworkDirectory& directory;
    NetworkGuests& guests;
    Scope& scope;
    Patience patience{};
};

}  // namespace virtbus
