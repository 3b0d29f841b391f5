// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/driver.hpp"

#include <fmt/format.h>

#include "network/bridge.hpp"
#include "network/bridge_network.hpp"
#include "network/dnsmasq_config.hpp"
#include "network/host_facts.hpp"
#include "network/virtual_function.hpp"
#include "virtbus/error.hpp"

namespace virtbus::network {

namespace {

/// Devices that the host has and guests are given: nothing is made for the network itself.
class PoolNetwork final : public RunningNetwork {
public:
    explicit PoolNetwork(NetworkConfig config) : config_{std::move(config)} {}

    std::string driver_state() const override { return encode(NetworkRecord{}); }
    const NetworkConfig& config() const override { return config_; }
    std::vector<DhcpLease> leases() const override { return {}; }
    std::string problem() const override { return {}; }
    Task<> update(NetworkConfig config, Deadline) override {
        config_ = std::move(config);
        co_return;
    }
    Task<> add_class(PortClass, Deadline) override {
        throw Error{Code::unsupported_configuration,
                    fmt::format("network '{}' has no bridge of its own, so no bandwidth can be kept for a guest",
                                config_.name)};
    }
    Task<> remove_class(std::uint32_t, Deadline) override { co_return; }
    Task<> stop(Deadline) override { co_return; }

private:
    NetworkConfig config_;
};

NetworkRecord planned(const NetworkConfig& config) {
    NetworkRecord record;
    record.bridge = config.bridge ? config.bridge->name : "";
    record.mac = config.mac;
    return record;
}

}  // namespace

VirtualNetworks::VirtualNetworks(Ports& ports, std::string root)
    : host_{std::make_shared<NetworkHost>(ports)}, root_{std::move(root)} {}

VirtualNetworks::~VirtualNetworks() = default;

Task<HostNetworks> VirtualNetworks::look(Deadline deadline) {
    co_return co_await host_->ports.workers.run(
        "looking at the host's networks", [] { return look_at_host(); }, deadline);
}

std::vector<std::string> VirtualNetworks::unsupported(const NetworkConfig& config) {
    std::vector<std::string> out;
    if (!is_virtual(forward_mode(config))) return out;
    if (config.virtual_port) out.emplace_back("a network with a bridge of its own has no virtual port");
    return out;
}

Task<> VirtualNetworks::require_room(const NetworkConfig& config, Deadline deadline, std::stop_token stop) {
    auto work = [config] {
        require_no_conflict(config, look_at_host());
        if (is_virtual(forward_mode(config)) && wants_dnsmasq(config)) require_free_ports(config);
    };
    co_await host_->ports.workers.run(fmt::format("looking for what is in the way of network '{}'", config.name),
                                      std::move(work), deadline, std::move(stop));
}

Task<std::unique_ptr<RunningNetwork>> VirtualNetworks::start(NetworkStartRequest request) {
    if (const auto reasons = unsupported(request.config); !reasons.empty())
        throw Error{Code::unsupported_configuration, fmt::format("network '{}': {}", request.config.name, reasons[0])};
    co_await require_room(request.config, request.deadline, request.stop);
    if (!is_virtual(forward_mode(request.config))) {
        auto pool = std::make_unique<PoolNetwork>(std::move(request.config));
        request.unfinished(pool->driver_state());
        co_return pool;
    }
    (void)dnsmasq_files(request.config, host_->ports.folders.runtime,
                        {});  // what cannot be said to it, before anything
    auto record = planned(request.config);
    auto network =
        std::make_unique<BridgeNetwork>(host_, std::move(request.config), std::move(record), &request.events);
    co_await network->start(request.deadline, request.stop, request.unfinished);
    co_return network;
}

Task<std::unique_ptr<RunningNetwork>> VirtualNetworks::adopt(NetworkConfig config, std::string driver_state,
                                                             NetworkEvents& events, Deadline deadline) {
    if (!is_virtual(forward_mode(config))) co_return std::make_unique<PoolNetwork>(std::move(config));
    auto record = driver_state.empty() ? planned(config) : decode_network_record(driver_state);
    if (driver_state.empty() && !record.bridge.empty())  // another program's record: its bridge is ours now
        record.index = co_await host_->ports.workers.run(
            "looking for bridge " + record.bridge, [name = record.bridge] { return find_bridge(name); }, deadline);
    auto network = std::make_unique<BridgeNetwork>(host_, std::move(config), std::move(record), &events);
    if (!co_await network->adopt(deadline)) co_return nullptr;
    co_return network;
}

Task<> VirtualNetworks::undo(NetworkConfig config, std::string driver_state, Deadline deadline) {
    if (!is_virtual(forward_mode(config)) || !config.bridge) co_return;
    BridgeNetwork network{host_, config, driver_state.empty() ? planned(config) : decode_network_record(driver_state),
                          nullptr};
    co_await network.stop(deadline);
}

Task<std::vector<CardFunction>> VirtualNetworks::functions_of(std::string card, Deadline deadline) {
    auto work = [root = root_, card] { return network::functions_of(root, card); };
    co_return co_await host_->ports.workers.run("listing the functions of " + card, std::move(work), deadline);
}

}  // namespace virtbus::network
