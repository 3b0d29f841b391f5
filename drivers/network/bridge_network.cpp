// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/bridge_network.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "network/bridge.hpp"
#include "network/bridge_shaping.hpp"
#include "network/host_facts.hpp"
#include "network/rules.hpp"
#include "virtbus/error.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::network {

namespace {

constexpr Duration undo_patience{10'000};

Bandwidth bandwidth_of(const NetworkConfig& config) {
    return config.bandwidth.value_or(Bandwidth{});
}

/// Which families the host has to forward for it.
struct Forwarded {
    bool ipv4 = false, ipv6 = false;
};
Forwarded forwarded(const NetworkConfig& config) {
    Forwarded out;
    if (!is_routed(forward_mode(config))) return out;
    for (const auto& ip : config.ips) (net_of(ip).address.v6 ? out.ipv6 : out.ipv4) = true;
    return out;
}

std::string zone_of(const NetworkConfig& config) {
    return config.bridge ? config.bridge->zone : std::string{};
}

Task<> deliver(Task<> task, Reply<>::Promise promise) {
    try {
        co_await task;
        promise.set();
    } catch (...) {
        promise.fail(std::current_exception());
    }
}

/// Everything of it that is the host's and quickly done, on a worker.
struct HostSide {
    std::shared_ptr<NetworkHost> host;
    std::string bridge, uuid;
    NetworkRules rules;
    Forwarded forward;

    HostSide(std::shared_ptr<NetworkHost> shared, const NetworkConfig& config)
        : host{std::move(shared)},
          bridge{config.bridge->name},
          uuid{config.uuid},
          rules{rules_of(config)},
          forward{forwarded(config)} {}

    void take() const {
        if (rules.text.empty())
            host->rules.remove(bridge);
        else
            host->rules.set(rules);
        if (forward.ipv4 || forward.ipv6)
            host->forwarding.hold(uuid, forward.ipv4, forward.ipv6);
        else
            host->forwarding.release(uuid);
    }
    void let_go() const {
        host->forwarding.release(uuid);
        host->rules.remove(bridge);
    }
};

/// A bridge whose maker may have given up waiting; it goes unless somebody takes it.
struct NewBridge {
    std::string name;
    int index = 0;
    ~NewBridge() {
        if (index == 0) return;
        try {
            clear_bridge(index, name);
            remove_bridge(name, index);
        } catch (const Error&) {
            // Nobody is left to be told; the next start of the network says that the name is taken.
        }
    }
};

/// The bridge of that record, also one that was being made when the daemon died; 0 when it is gone.
int index_of(const NetworkRecord& record) {
    if (record.index) return bridge_is_there(record.bridge, record.index) ? record.index : 0;
    const int found = find_bridge(record.bridge);
    return found && bridge_has_mac(found, parse_mac(record.mac)) ? found : 0;
}

}  // namespace

BridgeNetwork::BridgeNetwork(std::shared_ptr<NetworkHost> host, NetworkConfig config, NetworkRecord record,
                             NetworkEvents* events)
    : host_{std::move(host)}, config_{std::move(config)}, record_{std::move(record)}, events_{events} {}

BridgeNetwork::~BridgeNetwork() = default;

std::string BridgeNetwork::words() const {
    return fmt::format("network '{}'", config_.name);
}

std::string BridgeNetwork::driver_state() const {
    return encode(record_);
}

std::vector<DhcpLease> BridgeNetwork::leases() const {
    return dnsmasq_ ? dnsmasq_->leases() : std::vector<DhcpLease>{};
}

std::string BridgeNetwork::problem() const {
    return dnsmasq_ ? dnsmasq_->problem() : std::string{};
}

void BridgeNetwork::make_dnsmasq() {
    Dnsmasq::Setting setting{
        .ports = host_->ports,
        .folder = fmt::format("{}/network/{}", host_->ports.folders.runtime, config_.uuid),
        .id = static_cast<std::uint32_t>(record_.index),
        .name = config_.name,
        .uuid = config_.uuid,
        .moved =
            [this] {
                record_.dnsmasq = dnsmasq_->record();
                if (recorded_)
                    recorded_(driver_state());
                else if (events_)
                    events_->state_moved();
            },
        .leases_changed =
            [this] {
                if (events_ && !recorded_) events_->leases_changed();
            },
        .problem =
            [this](std::string why) {
                if (events_) events_->problem_changed(std::move(why));
            },
    };
    dnsmasq_ = std::make_unique<Dnsmasq>(std::move(setting));
}

// ---- start

Task<> BridgeNetwork::start(Deadline deadline, std::stop_token stop, std::function<void(std::string)> recorded) {
    std::exception_ptr failure;
    try {
        co_await build(deadline, std::move(stop), recorded);
    } catch (...) {
        failure = std::current_exception();
    }
    recorded_ = {};
    if (!failure) co_return;
    if (record_.index == 0) std::rethrow_exception(failure);  // there is no bridge yet, and nothing without one
    try {
        co_await this->stop(in(undo_patience));
    } catch (const Error& error) {
        host_->ports.log.error(fmt::format("{}: its failed start could not be undone: {}", words(), error.what()));
    }
    std::rethrow_exception(failure);
}

Task<> BridgeNetwork::build(Deadline deadline, std::stop_token stop, const std::function<void(std::string)>& recorded) {
    const auto setting = bridge_setting(config_);
    recorded(driver_state());
    auto make = [setting, bandwidth = bandwidth_of(config_)] {
        auto made = std::make_shared<NewBridge>();
        made->name = setting.name;
        made->index = make_bridge(setting);
        if (bandwidth.inbound || bandwidth.outbound) limit_bridge(made->index, setting.name, bandwidth);
        return made;
    };
    const auto made = co_await host_->ports.workers.run("making bridge " + setting.name, make, deadline, stop);
    record_.index = std::exchange(made->index, 0);
    recorded_ = recorded;
    recorded(driver_state());

    // Rules and servers are made side by side: neither needs the other, and no guest is there yet.
    Reply<> host_side{host_->ports.loop};
    scope_.spawn(deliver(prepare_host(config_, deadline), host_side.promise()));
    std::exception_ptr failure;
    try {
        if (wants_dnsmasq(config_)) {
            make_dnsmasq();
            co_await dnsmasq_->start(config_, deadline, std::move(stop));
        }
    } catch (...) {
        failure = std::current_exception();
    }
    co_await host_side.wait("the rules of " + words(), std::nullopt);
    if (failure) std::rethrow_exception(failure);
}

Task<> BridgeNetwork::prepare_host(NetworkConfig config, Deadline deadline) {
    const HostSide side{host_, config};
    co_await host_->ports.workers.run("setting the rules of " + words(), [side] { side.take(); }, deadline);
    if (const auto zone = zone_of(config); !zone.empty()) co_await host_->firewalld.join(side.bridge, zone, deadline);
}

Task<bool> BridgeNetwork::adopt(Deadline deadline) {
    const HostSide side{host_, config_};
    auto look = [side, record = record_] {
        if (record.index == 0 || index_of(record) == 0) return false;
        if (!side.rules.text.empty()) side.host->rules.adopt(side.rules);
        side.host->rules.repair();
        if (side.forward.ipv4 || side.forward.ipv6)
            side.host->forwarding.hold(side.uuid, side.forward.ipv4, side.forward.ipv6);
        return true;
    };
    if (!co_await host_->ports.workers.run("looking for " + words(), look, deadline)) co_return false;
    if (wants_dnsmasq(config_)) {
        make_dnsmasq();
        co_await dnsmasq_->adopt(config_, record_.dnsmasq, deadline);
        record_.dnsmasq = dnsmasq_->record();
    }
    co_return true;
}

// ---- changes

Task<> BridgeNetwork::update(NetworkConfig config, Deadline deadline) {
    if (!config.bridge || config.bridge->name != config_.bridge->name || !is_virtual(forward_mode(config)))
        throw Error{Code::unsupported, fmt::format("{} keeps its bridge '{}' while it is active; stop it first",
                                                   words(), config_.bridge->name)};
    const auto before = config_;
    std::exception_ptr failure;
    try {
        co_await change(before, config, deadline);
    } catch (...) {
        failure = std::current_exception();
    }
    if (!failure) {
        config_ = std::move(config);
        co_return;
    }
    try {
        co_await change(config, before, in(undo_patience));
    } catch (const Error& error) {
        host_->ports.log.error(
            fmt::format("{}: after a change that failed it could not be made as it was: {}", words(), error.what()));
    }
    std::rethrow_exception(failure);
}

Task<> BridgeNetwork::change(const NetworkConfig& before, const NetworkConfig& after, Deadline deadline) {
    const auto from = bridge_setting(before), to = bridge_setting(after);
    auto work = [from, to, after, index = record_.index, old_limits = bandwidth_of(before),
                 limits = bandwidth_of(after), classes = record_.classes] {
        if (!(from == to)) {
            require_free_ranges(after, look_at_host());
            change_bridge(index, from, to);
        }
        if (old_limits == limits) return;
        limit_bridge(index, to.name, limits);
        for (const auto& port : classes) set_class(index, to.name, limits, port);
    };
    co_await host_->ports.workers.run("changing bridge " + to.name, std::move(work), deadline);
    if (zone_of(before) != zone_of(after) && zone_of(after).empty())
        co_await host_->firewalld.leave(to.name, zone_of(before), deadline);
    co_await prepare_host(after, deadline);
    co_await host_->ports.workers.run(
        "looking at the rules of " + words(), [host = host_] { host->rules.repair(); }, deadline);
    if (wants_dnsmasq(after)) {
        const bool fresh = !dnsmasq_;
        if (fresh) make_dnsmasq();
        if (fresh)
            co_await dnsmasq_->start(after, deadline);
        else
            co_await dnsmasq_->update(after, deadline);
    } else if (dnsmasq_) {
        co_await dnsmasq_->stop(deadline);
        dnsmasq_.reset();
        record_.dnsmasq = {};
        if (events_) events_->state_moved();
    }
}

Task<> BridgeNetwork::add_class(PortClass port, Deadline deadline) {
    auto work = [index = record_.index, bridge = record_.bridge, network = bandwidth_of(config_), port] {
        set_class(index, bridge, network, port);
    };
    co_await host_->ports.workers.run("keeping bandwidth on " + words(), std::move(work), deadline);
    std::erase_if(record_.classes, [&](const PortClass& other) { return other.id == port.id; });
    record_.classes.push_back(std::move(port));
    if (events_) events_->state_moved();
}

Task<> BridgeNetwork::remove_class(std::uint32_t id, Deadline deadline) {
    if (std::erase_if(record_.classes, [&](const PortClass& other) { return other.id == id; }) == 0) co_return;
    auto work = [index = record_.index, bridge = record_.bridge, id] {
        if (bridge_is_there(bridge, index)) network::remove_class(index, bridge, id);
    };
    co_await host_->ports.workers.run("giving back bandwidth of " + words(), std::move(work), deadline);
    if (events_) events_->state_moved();
}

// ---- stop

Task<> BridgeNetwork::stop(Deadline deadline) {
    recorded_ = {};
    if (wants_dnsmasq(config_) && !dnsmasq_) {
        make_dnsmasq();
        dnsmasq_->set_record(record_.dnsmasq);
    }
    // It ends while the rest is taken down.
    if (dnsmasq_) dnsmasq_->begin_stop();
    const HostSide side{host_, config_};
    auto work = [side, record = record_] {
        if (const int index = index_of(record)) {
            clear_bridge(index, record.bridge);
            remove_bridge(record.bridge, index);
        }
        side.let_go();
    };
    std::exception_ptr failure;
    try {
        co_await host_->ports.workers.run("taking down " + words(), std::move(work), deadline);
        if (const auto zone = zone_of(config_); !zone.empty())
            co_await host_->firewalld.leave(side.bridge, zone, deadline);
    } catch (...) {
        failure = std::current_exception();
    }
    if (dnsmasq_) co_await dnsmasq_->stop(deadline);
    if (failure) std::rethrow_exception(failure);
}

}  // namespace virtbus::network
