// SPDX-License-Identifier: LGPL-2.1-or-later
// VirtualNetworks: the driver of virtual networks. It decides what kind a definition makes (a bridge of its own, or
// devices that the host has), looks for what is in the way, and hands on; a network with a bridge is bridge_network's.
#pragma once

#include <memory>
#include <string>

#include "network/network_host.hpp"
#include "virtbus/network_driver.hpp"

namespace virtbus::network {

class VirtualNetworks final : public NetworkDriver {
public:
    /// `root` stands for the host's root, where its sysfs is.
    explicit VirtualNetworks(Ports& ports, std::string root = {});
    ~VirtualNetworks() override;

    Task<HostNetworks> look(Deadline deadline) override;
    std::vector<std::string> unsupported(const NetworkConfig& config) override;
    Task<std::unique_ptr<RunningNetwork>> start(NetworkStartRequest request) override;
    Task<std::unique_ptr<RunningNetwork>> adopt(NetworkConfig config, std::string driver_state, NetworkEvents& events,
                                                Deadline deadline) override;
    Task<> undo(NetworkConfig config, std::string driver_state, Deadline deadline) override;
    Task<std::vector<CardFunction>> functions_of(std::string card, Deadline deadline) override;

private:
    Task<> require_room(const NetworkConfig& config, Deadline deadline, std::stop_token stop);

    std::shared_ptr<NetworkHost> host_;
    const std::string root_;
};

}  // namespace virtbus::network
