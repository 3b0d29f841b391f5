// SPDX-License-Identifier: LGPL-2.1-or-later
// A driver of virtual networks on a host that is made up and outlives the daemons: bridges are remembered and refused
// when they are there, classes and leases are kept, every step can fail, hang or be the last of a daemon.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "service/xml/network_xml.hpp"
#include "virtbus/error.hpp"
#include "virtbus/network_driver.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::tests {

/// What is on the host, whoever made it.
struct FakeHost {
    struct Bridge {
        bool rules = false, server = false;
        std::map<std::uint32_t, PortClass> classes;
        std::vector<DhcpLease> leases;
        std::string definition;  ///< as the driver was told last
    };
    std::map<std::string, Bridge> bridges;
    std::set<std::string> other_links;
};

class FakeNetworkDriver final : public NetworkDriver {
public:
    FakeNetworkDriver(Loop& loop, FakeHost& host) : loop_{loop}, host_{host} {}

    // ---- what the test wants
    std::string
        fail;  ///< the name of a step: bridge, rules, server, update, add-class, remove-class, stop, adopt, undo
    std::string hang;  ///< the same; goes on when let_go() is called
    std::vector<std::string> cannot;
    std::map<std::string, std::vector<CardFunction>> functions;
    void let_go() {
        hang.clear();
        for (auto& promise : std::exchange(hanging_, {})) promise.set();
    }
    bool hangs() const { return !hanging_.empty(); }

    // ---- what it has seen
    std::vector<std::string> done;  ///< "start lan", "stop lan", "update lan", "undo lan", "adopt lan"
    std::size_t count(const std::string& what) const {
        return static_cast<std::size_t>(std::count(done.begin(), done.end(), what));
    }

    class Running final : public RunningNetwork {
    public:
        Running(FakeNetworkDriver& driver, NetworkConfig config, NetworkEvents& events, unsigned moves)
            : driver_{driver}, config_{std::move(config)}, events{events}, moves_{moves} {
            driver_.running_[config_.name] = this;
        }
        ~Running() override { driver_.running_.erase(config_.name); }

        std::string driver_state() const override { return state_of(bridge_name(), moves_); }
        const NetworkConfig& config() const override { return config_; }
        std::vector<DhcpLease> leases() const override { return bridge().leases; }
        std::string problem() const override { return problem_; }
        Task<> update(NetworkConfig config, Deadline) override {
            driver_.done.push_back("update " + config_.name);
            co_await driver_.step("update");
            config_ = std::move(config);
            bridge().definition = xml::format_network(config_);
        }
        Task<> add_class(PortClass port, Deadline) override {
            co_await driver_.step("add-class");
            bridge().classes[port.id] = std::move(port);
        }
        Task<> remove_class(std::uint32_t id, Deadline) override {
            co_await driver_.step("remove-class");
            bridge().classes.erase(id);
        }
        Task<> stop(Deadline) override {
            driver_.done.push_back("stop " + config_.name);
            co_await driver_.step("stop");
            driver_.host_.bridges.erase(bridge_name());
        }

        void move() {
            ++moves_;
            events.state_moved();
        }
        void fall_ill(std::string problem) {
            problem_ = problem;
            events.problem_changed(std::move(problem));
        }

    private:
        std::string bridge_name() const { return place_of(config_); }
        FakeHost::Bridge& bridge() const { return driver_.host_.bridges.at(bridge_name()); }
        FakeNetworkDriver& driver_;
        NetworkConfig config_;
        NetworkEvents& events;
        unsigned moves_;
        std::string problem_;
    };
    Running* running(const std::string& name) const {
        const auto found = running_.find(name);
        return found == running_.end() ? nullptr : found->second;
    }

    // ---- NetworkDriver
    Task<HostNetworks> look(Deadline) override {
        HostNetworks seen;
        for (const auto& [name, bridge] : host_.bridges) seen.links.push_back({name, true});
        for (const auto& name : host_.other_links) seen.links.push_back({name, false});
        co_return seen;
    }
    std::vector<std::string> unsupported(const NetworkConfig&) override { return cannot; }
    Task<std::unique_ptr<RunningNetwork>> start(NetworkStartRequest request) override {
        const auto name = place_of(request.config);
        done.push_back("start " + request.config.name);
        if (host_.bridges.contains(name) || host_.other_links.contains(name))
            throw Error{Code::already_exists, "there is a device '" + name + "' already"};
        std::exception_ptr error;
        try {
            request.unfinished(state_of(name, 0));
            host_.bridges[name].definition = xml::format_network(request.config);
            co_await step("bridge", request.stop);
            request.unfinished(state_of(name, 1));
            host_.bridges[name].rules = true;
            co_await step("rules", request.stop);
            request.unfinished(state_of(name, 2));
            host_.bridges[name].server = true;
            co_await step("server", request.stop);
        } catch (...) {
            error = std::current_exception();
        }
        if (error) {
            host_.bridges.erase(name);
            std::rethrow_exception(error);
        }
        co_return std::make_unique<Running>(*this, std::move(request.config), request.events, 2);
    }
    Task<std::unique_ptr<RunningNetwork>> adopt(NetworkConfig config, std::string driver_state, NetworkEvents& events,
                                                Deadline) override {
        done.push_back("adopt " + config.name);
        co_await step("adopt");
        const auto name = place_of(config);
        adopted_with = driver_state;
        if (!host_.bridges.contains(name)) co_return nullptr;
        co_return std::make_unique<Running>(*this, std::move(config), events, 9);
    }
    Task<> undo(NetworkConfig config, std::string driver_state, Deadline) override {
        done.push_back("undo " + config.name);
        co_await step("undo");
        const auto name = place_of(config);
        if (driver_state.empty() || driver_state.starts_with("fake " + name + ' ')) host_.bridges.erase(name);
    }
    Task<std::vector<CardFunction>> functions_of(std::string card, Deadline) override { co_return functions[card]; }

    std::string adopted_with;

private:
    /// Its bridge; a network that makes none has a place in the host's memory all the same.
    static std::string place_of(const NetworkConfig& config) {
        return is_virtual(forward_mode(config)) ? config.bridge->name : "pool-" + config.name;
    }
    static std::string state_of(const std::string& bridge, unsigned step) {
        return "fake " + bridge + ' ' + std::to_string(step);
    }
    Task<> step(std::string name, std::stop_token stop = {}) {
        if (hang == name) {
            Reply<> reply{loop_};
            hanging_.push_back(reply.promise());
            co_await reply.wait("the step " + name, std::nullopt, stop);
        }
        co_await sleep(loop_, Duration{0}, stop);
        if (fail == name) throw Error{Code::internal, "the step " + name + " failed"};
    }

    Loop& loop_;
    FakeHost& host_;
    std::map<std::string, Running*> running_;
    std::vector<Reply<>::Promise> hanging_;
};

}  // namespace virtbus::tests
