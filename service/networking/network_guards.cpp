// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/networking/network_guards.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <set>

#include "virtbus/error.hpp"

namespace virtbus {

namespace {

using Concerns = std::function<bool(const NetworkPort&)>;

std::optional<Breakage> on_ports(std::string what, const PortTable& table, const Concerns& concerns) {
    std::set<std::string> domains;
    for (const auto& port : table.ports)
        if (concerns(port)) domains.insert(port.domain_name);
    if (domains.empty()) return std::nullopt;
    return Breakage{std::move(what), {domains.begin(), domains.end()}};
}

bool everybody(const NetworkPort&) {
    return true;
}

std::string bridge_of(const NetworkConfig& config) {
    return config.bridge ? config.bridge->name : std::string{};
}

std::vector<std::string> nets_of(const NetworkConfig& config) {
    std::vector<std::string> nets;
    for (const auto& ip : config.ips) nets.push_back(net_of(ip).text());
    return nets;
}

std::optional<Breakage> broken_group(const NetworkConfig& before, const NetworkConfig& after, const PortTable& table) {
    for (const auto& group : before.port_groups) {
        const auto still = std::ranges::find(after.port_groups, group.name, &PortGroup::name);
        const bool gone = still == after.port_groups.end();
        auto same = group;
        if (!gone) same.is_default = still->is_default;  // counts for guests to come
        if (!gone && same == *still) continue;
        auto broken = on_ports(fmt::format("its portgroup '{}' would {}", group.name, gone ? "go" : "change"), table,
                               [&](const NetworkPort& port) { return port.port_group == group.name; });
        if (broken) return broken;
    }
    return std::nullopt;
}

std::optional<Breakage> broken_device(const NetworkConfig& before, const NetworkConfig& after, const PortTable& table) {
    const auto had = pool_devices(before), has = pool_devices(after);
    for (const auto& device : had) {
        if (std::ranges::find(has, device) != has.end()) continue;
        auto broken = on_ports(fmt::format("its device {} would go", device), table,
                               [&](const NetworkPort& port) { return port.device == device; });
        if (broken) return broken;
    }
    return std::nullopt;
}

std::optional<Breakage> broken_address(const NetworkConfig& before, const NetworkConfig& after,
                                       const PortTable& table) {
    const auto has = nets_of(after);
    for (const auto& net : nets_of(before))
        if (std::ranges::find(has, net) == has.end())
            return on_ports(fmt::format("its address {} would go", net), table, everybody);
    return std::nullopt;
}

std::optional<Breakage> broken_floor(const NetworkConfig& after, const PortTable& table) {
    const auto has = after.bandwidth ? after.bandwidth->inbound : std::nullopt;
    const auto most = !has ? 0 : has->peak.value_or(0) > 0 ? *has->peak : has->average.value_or(0);
    if (table.floor_sum() <= most) return std::nullopt;
    return on_ports(fmt::format("of its bandwidth {} KiB/s would be left for the {} KiB/s that are guaranteed", most,
                                table.floor_sum()),
                    table, [](const NetworkPort& port) { return port.class_id != 0; });
}

}  // namespace

std::optional<Breakage> breakage(const NetworkConfig& before, const NetworkConfig& after, const PortTable& table) {
    if (forward_mode(before) != forward_mode(after))
        return on_ports(fmt::format("its mode would be '{}'", word(forward_mode(after))), table, everybody);
    if (bridge_of(before) != bridge_of(after))
        return on_ports(fmt::format("its bridge would be '{}'", bridge_of(after)), table, everybody);
    if (auto broken = broken_group(before, after, table)) return broken;
    if (auto broken = broken_device(before, after, table)) return broken;
    if (auto broken = broken_address(before, after, table)) return broken;
    return broken_floor(after, table);
}

}  // namespace virtbus
