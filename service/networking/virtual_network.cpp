// SPDX-License-Identifier: LGPL-2.1-or-later
// State, view and what is answered at once.
#include "service/networking/virtual_network.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "service/names.hpp"
#include "service/xml/network_xml.hpp"

namespace virtbus {

namespace {

/// What a start fills in does not make it another network.
bool same_but_filled_in(const NetworkConfig& live, NetworkConfig stored) {
    if (stored.mac.empty()) stored.mac = live.mac;
    if (live.bridge && !live.bridge->name.empty()) {
        if (!stored.bridge) stored.bridge.emplace();
        if (stored.bridge->name.empty()) stored.bridge->name = live.bridge->name;
    }
    return xml::format_network(xml::without_live(std::move(stored))) == xml::format_network(xml::without_live(live));
}

/// Twelve digits; nothing for what is no MAC address.
std::optional<std::string> mac_digits(std::string_view text) {
    std::string digits, part;
    const auto end_part = [&] {
        if (part.empty() || part.size() > 2) return false;
        digits += part.size() == 1 ? '0' + part : part;
        part.clear();
        return true;
    };
    const bool parts = text.find_first_of(":-") != text.npos;
    for (const char c : text) {
        const auto low = static_cast<char>(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
        const bool digit = (low >= '0' && low <= '9') || (low >= 'a' && low <= 'f');
        if (digit)
            (parts ? part : digits) += low;
        else if ((c != ':' && c != '-') || !end_part())
            return std::nullopt;
    }
    if (parts && !end_part()) return std::nullopt;
    return digits.size() == 12 ? std::optional{digits} : std::nullopt;
}

std::vector<std::string> addresses_of(const NetworkConfig& config) {
    std::vector<std::string> addresses;
    for (const auto& ip : config.ips) {
        try {
            addresses.push_back(net_of(ip).text());
        } catch (const Error&) {  // a record of another program may hold what is none
        }
    }
    return addresses;
}

}  // namespace

VirtualNetwork::VirtualNetwork(NetworkContext& context, std::string uuid, std::string name)
    : context_{context}, lane_{context.ports.loop, fmt::format("network '{}'", name)} {
    view_.uuid = std::move(uuid);
    view_.name = std::move(name);
    view_.forward_mode = word(ForwardMode::none);
}

void VirtualNetwork::load(NetworkDefinition definition, bool autostart) {
    definition_ = std::move(definition);
    view_.autostart = autostart;
    view_ = described();
}

// ---- the view

std::string VirtualNetwork::problem() const {
    if (live_) return live_->running->problem();
    if (!leftover_reason_.empty()) return leftover_reason_;
    return definition_ ? definition_->problem : std::string{};
}

NetworkView VirtualNetwork::described() const {
    auto view = view_;
    view.active = live_ != nullptr;
    view.persistent = definition_.has_value();
    view.problem = problem();
    view.updated = live_ && definition_ && !same_but_filled_in(live_->config, definition_->config);
    const bool usable = definition_ && definition_->problem.empty();
    if (!live_ && !usable) return view;
    const auto& config = live_ ? live_->config : definition_->config;
    view.bridge = config.bridge ? config.bridge->name : std::string{};
    view.forward_mode = word(forward_mode(config));
    view.domain_name = config.domain ? config.domain->name : std::string{};
    view.addresses = addresses_of(config);
    return view;
}

void VirtualNetwork::show() {
    const auto before = std::exchange(view_, described());
    if (listed_ && before != view_) context_.audience.network_changed(*this, before);
}

void VirtualNetwork::vanish() {
    listed_ = false;
    context_.directory.remove(*this);
    context_.audience.network_removed(view_);
}

// ---- the record

void VirtualNetwork::save_state(const LiveNetwork& live) const {
    NetworkStatus status;
    status.boot_id = context_.store.boot_id();
    status.config = with_connections(live.config, live.table);
    status.driver_state = live.driver_state;
    status.started = live.started;
    status.class_ids = live.table.other_classes;
    status.floor_sum = live.table.floor_sum();
    status.ports = live.table.ports;
    context_.store.write_state(view_.name, xml::format_network_status(status));
}

/// For changes that have happened and cannot be refused any more.
void VirtualNetwork::save_if_live(const LiveNetworkPtr& live) const {
    if (live_ != live) return;
    try {
        save_state(*live);
    } catch (const std::exception& e) {
        log(Priority::warning, fmt::format("Its live state could not be recorded: {}", e.what()));
    }
}

void VirtualNetwork::state_moved() {
    const auto live = live_ ? live_ : starting_;
    if (!live || !live->running) return;
    live->driver_state = live->running->driver_state();
    save_if_live(live);
}

void VirtualNetwork::problem_changed(std::string problem) {
    if (!live_ || !live_->running) return;
    if (!problem.empty()) log(Priority::warning, problem);
    show();
}

// ---- texts

std::string VirtualNetwork::xml(bool inactive) const {
    if (live_ && !(inactive && definition_)) {
        const auto config = inactive ? xml::without_live(live_->config) : with_connections(live_->config, live_->table);
        return xml::format_network(config);
    }
    if (definition_) return definition_->text;
    throw Error{Code::invalid_state, fmt::format("{} is going; it has no definition any more", words())};
}

std::vector<DhcpLease> VirtualNetwork::leases(const std::string& mac) const {
    std::optional<std::string> wanted;
    if (!mac.empty()) {
        wanted = mac_digits(mac);
        if (!wanted) throw Error{Code::invalid_args, fmt::format("'{}' is no MAC address", printable(mac))};
    }
    if (!live_) return {};
    auto all = live_->running->leases();
    if (wanted) std::erase_if(all, [&](const DhcpLease& lease) { return mac_digits(lease.mac) != wanted; });
    return all;
}

// ---- what others ask of it

std::string VirtualNetwork::bridge_name() const {
    const auto name = [](const NetworkConfig& config) { return config.bridge ? config.bridge->name : std::string{}; };
    if (definition_ && is_virtual(forward_mode(definition_->config)) && !name(definition_->config).empty())
        return name(definition_->config);
    return live_ && is_virtual(forward_mode(live_->config)) ? name(live_->config) : std::string{};
}

bool VirtualNetwork::has_bridge(const std::string& name) const {
    const auto names_it = [&](const NetworkConfig& config) { return config.bridge && config.bridge->name == name; };
    return claimed_bridge_ == name || (definition_ && names_it(definition_->config)) ||
           (live_ && names_it(live_->config)) || (starting_ && names_it(starting_->config)) ||
           (leftover_ && names_it(leftover_->config));
}

std::vector<IpNet> VirtualNetwork::nets_in_use() const {
    std::vector<IpNet> nets;
    for (const auto& live : {live_, starting_}) {
        if (!live || !is_virtual(forward_mode(live->config))) continue;
        for (const auto& ip : live->config.ips) nets.push_back(net_of(ip));
    }
    return nets;
}

// ---- guards

std::string VirtualNetwork::words() const {
    return fmt::format("network '{}'", view_.name);
}

void VirtualNetwork::log(Priority priority, const std::string& message, std::string_view message_id) const {
    Log::Fields fields{{"NETWORK", view_.name}, {"NETWORK_UUID", view_.uuid}};
    if (!message_id.empty()) fields.emplace_back("MESSAGE_ID", message_id);
    context_.ports.log.write(priority, fmt::format("{}: {}", words(), message), fields);
}

void VirtualNetwork::require_listed() const {
    if (!listed_) throw Error{Code::no_such_network, fmt::format("{} ({}) is gone", words(), view_.uuid)};
}

void VirtualNetwork::require_stored(std::string_view verb) const {
    if (!definition_)
        throw Error{
            Code::invalid_state,
            fmt::format("{} is transient: nothing of it is stored; '{}' needs a persistent network", words(), verb)};
}

NetworkDriver& VirtualNetwork::require_driver() const {
    if (!context_.driver)
        throw Error{Code::unsupported, fmt::format("{} cannot be active: this service runs no networks", words())};
    return *context_.driver;
}

void VirtualNetwork::require_startable() const {
    if (live_) throw Error{Code::invalid_state, fmt::format("{} is active; 'start' needs it inactive", words())};
    if (definition_ && !definition_->problem.empty())
        throw Error{Code::unsupported_configuration,
                    fmt::format("{} cannot be started, its definition {} is unusable: {}. Define it anew", words(),
                                definition_->path, definition_->problem)};
}

}  // namespace virtbus
