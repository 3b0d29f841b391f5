// SPDX-License-Identifier: LGPL-2.1-or-later
// What happens when the daemon starts: definitions are read, live state in old places is moved, active networks are
// taken up, networks are started that shall start with the host.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "service/names.hpp"
#include "service/networking/network_list.hpp"
#include "service/parallel.hpp"
#include "service/xml/domain_xml.hpp"
#include "service/xml/network_xml.hpp"

namespace virtbus {

namespace {

bool is_name(const std::string& name) {
    try {
        xml::require_name(name, "network");
        return true;
    } catch (const Error&) {
        return false;
    }
}

NetworkStatus read_state(const NetworkStore::StateFile& file) {
    if (!file.problem.empty()) throw Error{Code::internal, file.problem};
    auto status = xml::parse_network_status(file.text);
    xml::require_name(status.config.name, "network");
    if (status.config.name != file.stem)
        throw Error{Code::internal, fmt::format("it speaks of network '{}'", printable(status.config.name))};
    auto uuid = normal_uuid(status.config.uuid);
    if (!uuid) throw Error{Code::internal, "it names no UUID"};
    status.config.uuid = std::move(*uuid);
    return status;
}

bool needs_bridge(const NetworkConfig& config) {
    return config.bridge && !config.bridge->name.empty();
}

}  // namespace

// ---- definitions

Task<> NetworkList::load() {
    auto& store = context_.store;
    store.prepare();
    const auto autostarts = store.autostarts();
    std::vector<std::pair<NetworkStore::DefinitionFile, std::string>> broken;
    for (auto& file : store.definitions()) {
        auto problem = file.problem;
        try {
            if (problem.empty()) load_definition(file, autostarts.contains(file.stem));
        } catch (const std::exception& e) {
            problem = e.what();
        }
        if (!problem.empty()) broken.emplace_back(std::move(file), std::move(problem));
    }
    // After the sound ones, so that a broken file takes no name or UUID away from one.
    for (const auto& [file, problem] : broken) load_broken(file, problem);
    co_await move_old_states();
    co_await load_states();
}

void NetworkList::load_definition(const NetworkStore::DefinitionFile& file, bool autostart) {
    auto config = xml::without_live(xml::parse_network(file.text).config);
    xml::require_name(config.name, "network");
    if (config.uuid.empty()) config.uuid = file.stem;
    const auto uuid = normal_uuid(config.uuid);
    if (!uuid) throw Error{Code::invalid_xml, fmt::format("'{}' is no UUID", printable(config.uuid))};
    config.uuid = *uuid;
    xml::complete_network(config);
    const auto same = network(*uuid), named = network_by_name(config.name);
    if (const auto& other = same ? same : named) {
        context_.ports.log.error(
            fmt::format("The definition {} is left alone: {} '{}' is already that of network '{}' from {}", file.path,
                        same ? "its UUID" : "its name", same ? *uuid : config.name, other->view().name,
                        other->definition() ? other->definition()->path : std::string{"elsewhere"}));
        return;
    }
    const auto made = make(*uuid, config.name);
    made->load({file.path, file.text, std::move(config), {}}, autostart);
    made->list_silently();
}

void NetworkList::load_broken(const NetworkStore::DefinitionFile& file, const std::string& problem) {
    auto uuid = normal_uuid(file.stem).value_or(made_up_uuid(file.path));
    std::string name;
    if (const auto said = xml::peek_identity(file.text, "network")) {
        if (const auto own = normal_uuid(said->uuid)) uuid = *own;
        if (is_name(said->name)) name = said->name;
    }
    if (name.empty() || network_by_name(name))
        name = is_name(file.stem) && !network_by_name(file.stem) ? file.stem : uuid;
    context_.ports.log.error(
        fmt::format("The definition {} of network '{}' cannot be used: {}", file.path, name, problem),
        {{"NETWORK", name}, {"NETWORK_UUID", uuid}});
    if (network(uuid) || network_by_name(name)) return;
    const auto made = make(uuid, name);
    made->load({file.path, file.text, {}, problem}, false);
    made->list_silently();
}

// ---- live state

/// Older layouts count while what they speak of is there; then they move, one by one. A file that cannot be used stops
/// its network only.
Task<> NetworkList::move_old_states() {
    const auto files = context_.store.old_states();
    if (files.empty() || !context_.driver) co_return;
    std::vector<std::string> bridges;
    try {
        const auto host = co_await context_.driver->look(in(context_.patience.verb));
        for (const auto& link : host.links)
            if (link.bridge) bridges.push_back(link.name);
    } catch (const std::exception& e) {
        context_.ports.log.error(fmt::format("Live state of older layouts is left for a later start: {}", e.what()));
        co_return;
    }
    for (const auto& file : files) {
        std::string unusable, failure;
        try {
            co_await move_old_state(file, bridges);
        } catch (const Error& e) {
            const bool of_the_host = e.code() == Code::no_space || e.code() == Code::timeout;
            (of_the_host ? failure : unusable) = e.what();
        } catch (const std::exception& e) {
            unusable = e.what();
        }
        if (!unusable.empty()) co_await context_.store.reject(file.path, unusable);
        if (!failure.empty())
            context_.ports.log.error(
                fmt::format("The live state {} is left for a later start of the service: {}", file.path, failure));
    }
}

Task<> NetworkList::move_old_state(NetworkStore::StateFile file, std::vector<std::string> bridges) {
    auto& store = context_.store;
    auto status = read_state(file);
    const auto& config = status.config;
    if (context_.ports.files.exists(store.state_path(config.name)))
        throw Error{Code::already_exists, fmt::format("{} is what counts", store.state_path(config.name))};
    const bool there = !needs_bridge(config) || std::ranges::find(bridges, config.bridge->name) != bridges.end();
    const bool of_this_boot = status.boot_id.empty() ? file.after_boot && there : status.boot_id == store.boot_id();
    if (!of_this_boot) {
        co_await context_.driver->undo(status.config, status.driver_state, in(context_.patience.verb));
        context_.ports.log.info(
            fmt::format("The live state {} is of a network that is gone; it is removed", file.path));
        co_await store.remove_old(file.path);
        co_return;
    }
    status.boot_id = store.boot_id();
    co_await store.move_here(file.path, config.name, xml::format_network_status(status));
}

Task<> NetworkList::load_states() {
    std::vector<std::function<Task<>()>> work;
    for (auto& file : context_.store.states())
        work.emplace_back([this, file = std::move(file)] { return take_up(file); });
    if (work.empty()) co_return;
    const auto all = work.size();
    try {
        co_await limited<void>(
            context_.ports.loop, context_.scope, run_all(context_.ports.loop, context_.scope, std::move(work), all),
            "taking up the networks of the earlier daemon", in(context_.patience.adopt), {}, {}, nullptr);
    } catch (const Error& e) {
        context_.ports.log.warning(fmt::format("{}; the service starts without waiting for the rest", e.what()));
    }
}

Task<> NetworkList::take_up(NetworkStore::StateFile file) {
    std::string problem;
    try {
        auto status = read_state(file);
        const bool older = status.boot_id.empty() && !file.after_boot;
        if (older || (!status.boot_id.empty() && status.boot_id != context_.store.boot_id())) status.started = false;
        auto there = network(status.config.uuid);
        if (there && there->view().name != status.config.name)
            throw Error{Code::already_exists, fmt::format("its UUID is that of network '{}'", there->view().name)};
        if (!there && network_by_name(status.config.name))
            throw Error{Code::already_exists, "its name is that of another network now"};
        if (!there) {
            there = make(status.config.uuid, status.config.name);
            there->list_silently();
        }
        co_await there->adopt(std::move(status));
        if (guests_known_) co_await there->drop_dead_ports();
    } catch (const std::exception& e) {
        problem = e.what();
    }
    if (!problem.empty()) co_await context_.store.reject(file.path, problem);
}

Task<> NetworkList::guests_are_known() {
    guests_known_ = true;
    std::vector<VirtualNetworkPtr> all;
    for (const auto& [uuid, network] : by_uuid_) all.push_back(network);
    for (const auto& network : all) co_await network->drop_dead_ports();
}

// ---- autostart

namespace {

/// The network has logged its failure.
Task<> start_one(Jobs& jobs, VirtualNetworkPtr network) {
    try {
        const auto job = network->start({});
        (void)co_await jobs.wait(job, std::nullopt);
    } catch (const std::exception&) {
    }
}

}  // namespace

Task<> NetworkList::autostart() {
    if (context_.store.autostart_done()) co_return;
    context_.store.mark_autostart_done();
    std::vector<std::function<Task<>()>> work;
    for (const auto& entry : by_uuid_) {
        const auto& network = entry.second;
        if (network->listed() && network->view().autostart && !network->active())
            work.emplace_back([this, network] { return start_one(context_.jobs, network); });
    }
    constexpr std::size_t at_once = 4;
    co_await run_all(context_.ports.loop, context_.scope, std::move(work), at_once);
}

}  // namespace virtbus
