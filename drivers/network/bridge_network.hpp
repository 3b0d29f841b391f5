// SPDX-License-Identifier: LGPL-2.1-or-later
// BridgeNetwork: one network with a bridge of its own, from its first change of the host to the last trace. It puts the
// parts together (bridge, rules, forwarding, bandwidth, dnsmasq) and keeps the record; each part is its own file's.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "network/dnsmasq.hpp"
#include "network/network_host.hpp"
#include "network/network_record.hpp"
#include "virtbus/network_driver.hpp"

namespace virtbus::network {

class BridgeNetwork final : public RunningNetwork {
public:
    /// `events` may be null for one that is only taken down.
    BridgeNetwork(std::shared_ptr<NetworkHost> host, NetworkConfig config, NetworkRecord record, NetworkEvents* events);
    ~BridgeNetwork() override;

    /// Nothing of it stays when it throws. `recorded` is told before each thing that undo needs to know of.
    Task<> start(Deadline deadline, std::stop_token stop, std::function<void(std::string)> recorded);
    /// False when the bridge is gone.
    Task<bool> adopt(Deadline deadline);

    std::string driver_state() const override;
    const NetworkConfig& config() const override { return config_; }
    std::vector<DhcpLease> leases() const override;
    std::string problem() const override;
    Task<> update(NetworkConfig config, Deadline deadline) override;
    Task<> add_class(PortClass port, Deadline deadline) override;
    Task<> remove_class(std::uint32_t id, Deadline deadline) override;
    Task<> stop(Deadline deadline) override;

private:
    Task<> build(Deadline deadline, std::stop_token stop, const std::function<void(std::string)>& recorded);
    Task<> change(const NetworkConfig& before, const NetworkConfig& after, Deadline deadline);
    Task<> prepare_host(NetworkConfig config, Deadline deadline);
    void make_dnsmasq();
    std::string words() const;

    std::shared_ptr<NetworkHost> host_;
    NetworkConfig config_;
    NetworkRecord record_;
    NetworkEvents* events_;
    std::function<void(std::string)> recorded_;  ///< while it starts
    std::unique_ptr<Dnsmasq> dnsmasq_;           ///< null: nobody wants it
    Scope scope_;
};

}  // namespace virtbus::network
