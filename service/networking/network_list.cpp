// SPDX-License-Identifier: LGPL-2.1-or-later
// Finding, defining, creating.
#include "service/networking/network_list.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "service/names.hpp"
#include "service/xml/domain_xml.hpp"
#include "service/xml/network_xml.hpp"

namespace virtbus {

// ---- finding

VirtualNetworkPtr NetworkList::network(std::string_view uuid) const {
    const auto found = by_uuid_.find(uuid);
    return found == by_uuid_.end() ? nullptr : found->second;
}

VirtualNetworkPtr NetworkList::network_by_name(std::string_view name) const {
    const auto found = by_name_.find(std::string{name});
    return found == by_name_.end() ? nullptr : found->second->shared_from_this();
}

NetworkPtr NetworkList::find(std::string_view uuid) const {
    auto there = network(uuid);
    return there && there->listed() ? there : nullptr;
}

NetworkPtr NetworkList::find_by_name(std::string_view name) const {
    auto there = network_by_name(name);
    return there && there->listed() ? there : nullptr;
}

NetworkPtr NetworkList::get(std::string_view name_or_uuid) const {
    if (auto there = find_by_name(name_or_uuid)) return there;
    if (const auto uuid = normal_uuid(name_or_uuid))
        if (auto there = find(*uuid)) return there;
    throw Error{Code::no_such_network,
                fmt::format("there is no network with the name or UUID '{}'", printable(name_or_uuid))};
}

std::vector<NetworkPtr> NetworkList::list() const {
    std::vector<NetworkPtr> all;
    for (const auto& [uuid, network] : by_uuid_)
        if (network->listed()) all.push_back(network);
    return all;
}

std::size_t NetworkList::size() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(by_uuid_, [](const auto& entry) { return entry.second->listed(); }));
}

bool NetworkList::any_active() const {
    return std::ranges::any_of(by_uuid_, [](const auto& entry) { return entry.second->active(); });
}

Networks::Identity NetworkList::identify(std::string_view xml) const {
    const auto config = xml::parse_network(xml).config;
    return {config.name, normal_uuid(config.uuid).value_or("")};
}

// ---- NetworkDirectory

void NetworkList::require_no_overlap(const NetworkConfig& config, const VirtualNetwork& but) const {
    if (!is_virtual(forward_mode(config))) return;
    for (const auto& ip : config.ips) {
        const auto net = net_of(ip);
        for (const auto& [uuid, other] : by_uuid_) {
            if (other.get() == &but) continue;
            for (const auto& taken : other->nets_in_use())
                if (net.overlaps(taken))
                    throw Error{Code::unsupported_configuration,
                                fmt::format("network '{}' cannot have {}: the active network '{}' has {}. Stop that "
                                            "one, or choose other addresses",
                                            config.name, net.text(), other->view().name, taken.text())};
        }
    }
}

void NetworkList::remove(VirtualNetwork& network) {
    const auto keep = network.shared_from_this();
    std::erase_if(by_name_, [&](const auto& entry) { return entry.second == &network; });
    if (const auto found = by_uuid_.find(network.view().uuid); found != by_uuid_.end() && found->second == keep)
        by_uuid_.erase(found);
}

VirtualNetworkPtr NetworkList::make(const std::string& uuid, const std::string& name) {
    auto network = std::make_shared<VirtualNetwork>(context_, uuid, name);
    by_uuid_.emplace(uuid, network);
    by_name_.emplace(name, network.get());
    return network;
}

void NetworkList::forget() {
    by_name_.clear();
    by_uuid_.clear();
}

// ---- defining and creating

NetworkConfig NetworkList::read(std::string_view xml, bool strict) const {
    auto [config, unknown] = xml::parse_network(xml);
    if (strict) xml::require_known(unknown);
    xml::require_name(config.name, "network");
    constexpr std::size_t longest = 200;  // its live state is a file of that name
    if (config.name.size() > longest)
        throw Error{Code::invalid_xml,
                    fmt::format("a network's name has at most {} bytes, this one has {}", longest, config.name.size())};
    if (!config.uuid.empty()) {
        auto uuid = normal_uuid(config.uuid);
        if (!uuid) throw Error{Code::invalid_xml, fmt::format("'{}' is no UUID", printable(config.uuid))};
        config.uuid = std::move(*uuid);
    }
    // One that is defined anew is the same device to its guests.
    if (const auto same = network(config.uuid);
        same && same->definition() && config.mac.empty() && is_virtual(forward_mode(config)))
        config.mac = same->definition()->config.mac;
    config = xml::without_live(std::move(config));
    for (const auto& sentence : unknown)
        context_.ports.log.info(fmt::format("network '{}': not understood and kept: {}", config.name, sentence));
    if (config.uuid.empty()) {
        require_no_other(config);
        config.uuid = xml::random_uuid();
    }
    xml::complete_network(config);
    return std::move(config);
}

void NetworkList::require_no_other(const NetworkConfig& config) const {
    const auto named = network_by_name(config.name), same = network(config.uuid);
    if (named && named != same)
        throw Error{
            Code::already_exists,
            fmt::format("a network '{}' exists with UUID {}{}; undefine it first, or give its UUID to change it",
                        config.name, named->view().uuid,
                        config.uuid.empty() ? ", and the XML names no UUID" : ", not " + config.uuid)};
    if (same && same->view().name != config.name)
        throw Error{Code::already_exists, fmt::format("the UUID {} is that of network '{}'; take another UUID",
                                                      config.uuid, same->view().name)};
}

/// Many may define the same at once: each waits for the one before, then looks again.
Task<NetworkList::Place> NetworkList::claim(JobPtr job, const NetworkConfig& config, Lane::Subject subject) {
    for (;;) {
        auto there = network(config.uuid);
        if (!there) there = network_by_name(config.name);
        if (!there) break;
        if (there->listed()) require_no_other(config);
        auto hold = co_await there->lane().enter(job, subject);
        if (!there->listed()) continue;
        require_no_other(config);
        if (network(config.uuid) != there) continue;
        co_return Place{std::move(there), std::move(hold), false};
    }
    auto made = make(config.uuid, config.name);
    auto hold = co_await made->lane().enter(std::move(job), subject);
    co_return Place{std::move(made), std::move(hold), true};
}

std::string NetworkList::owner_of_bridge(const std::string& name, const VirtualNetwork& but) const {
    for (const auto& [uuid, other] : by_uuid_)
        if (other.get() != &but && other->has_bridge(name)) return other->view().name;
    return {};
}

Task<NetworkConfig> NetworkList::with_bridge(VirtualNetworkPtr network, NetworkConfig config) {
    if (!is_virtual(forward_mode(config))) co_return config;
    if (!config.bridge) config.bridge.emplace();
    auto& name = config.bridge->name;
    if (name.empty()) name = network->bridge_name();
    if (!name.empty()) {
        if (const auto owner = owner_of_bridge(name, *network); !owner.empty())
            throw Error{Code::already_exists,
                        fmt::format("network '{}': the bridge '{}' is that of network '{}'", config.name, name, owner)};
        network->claim_bridge(name);
        co_return config;
    }
    std::set<std::string> there;
    if (context_.driver) {
        const auto host = co_await context_.driver->look(in(context_.patience.verb));
        for (const auto& link : host.links) there.insert(link.name);
    }
    for (unsigned i = 0;; ++i) {
        auto candidate = fmt::format("virbr{}", i);
        if (there.contains(candidate) || !owner_of_bridge(candidate, *network).empty()) continue;
        name = candidate;
        break;
    }
    network->claim_bridge(name);
    co_return config;
}

Task<NetworkPtr> NetworkList::define(std::string xml, bool strict, Caller caller) {
    auto config = read(xml, strict);
    co_return co_await run("define", std::move(config), std::move(caller));
}

Task<NetworkPtr> NetworkList::create(std::string xml, bool strict, Caller caller) {
    auto config = read(xml, strict);
    co_return co_await run("create", std::move(config), std::move(caller));
}

Task<NetworkPtr> NetworkList::run(std::string verb, NetworkConfig config, Caller caller) {
    const bool define = verb == "define";
    JobSpec spec;
    spec.operation = std::move(verb);
    spec.networks = {config.uuid};
    spec.action = define ? "network.configure" : "network.start";
    spec.caller = std::move(caller);
    auto result = std::make_shared<NetworkPtr>();
    const auto job = context_.jobs.run(std::move(spec), [this, define, config = std::move(config), result](JobPtr own) {
        return define ? do_define(std::move(own), config, result) : do_create(std::move(own), config, result);
    });
    co_await context_.jobs.wait(job, std::nullopt);
    co_return *result;
}

Task<> NetworkList::do_define(JobPtr job, NetworkConfig config, std::shared_ptr<NetworkPtr> result) {
    const auto place = co_await claim(std::move(job), config, Lane::Subject::definition);
    std::exception_ptr error;
    try {
        config = co_await with_bridge(place.network, std::move(config));
        co_await place.network->store(std::move(config));
    } catch (...) {
        error = std::current_exception();
    }
    place.network->claim_bridge({});
    if (error && place.made) remove(*place.network);
    if (error) std::rethrow_exception(error);
    *result = place.network;
}

Task<> NetworkList::do_create(JobPtr job, NetworkConfig config, std::shared_ptr<NetworkPtr> result) {
    const auto place = co_await claim(job, config, Lane::Subject::guest);
    std::exception_ptr error;
    try {
        place.network->require_startable();
        co_await place.network->launch(std::move(job), std::move(config));
    } catch (...) {
        error = std::current_exception();
    }
    if (error && place.made) remove(*place.network);
    if (error) std::rethrow_exception(error);
    *result = place.network;
}

}  // namespace virtbus
