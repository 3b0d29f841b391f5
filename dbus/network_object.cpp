// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/network_object.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "dbus/job_replies.hpp"
#include "dbus/paths.hpp"
#include "dbus/scope.hpp"
#include "dbus/subjects.hpp"
#include "virtbus/error.hpp"

namespace virtbus::dbus {

namespace {

/// Twelve hexadecimal digits, or six bytes of one or two with colons or dashes between them.
bool is_mac(std::string_view text) {
    const auto are_digits = [](std::string_view part) {
        return !part.empty() && part.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
    };
    if (text.size() == 12 && are_digits(text)) return true;
    const char separator = text.find('-') == std::string_view::npos ? ':' : '-';
    int parts = 0;
    for (bool more = true; more; parts++) {
        const auto end = std::min(text.find(separator), text.size());
        if (end > 2 || !are_digits(text.substr(0, end))) return false;
        more = end < text.size();
        text.remove_prefix(more ? end + 1 : end);
    }
    return parts == 6;
}

Dictionary lease_dictionary(DhcpLease lease) {
    Dictionary entry;
    entry.emplace_back("mac", std::move(lease.mac));
    entry.emplace_back("address", std::move(lease.address));
    entry.emplace_back("prefix", lease.prefix);
    entry.emplace_back("hostname", std::move(lease.hostname));
    entry.emplace_back("client-id", std::move(lease.client_id));
    entry.emplace_back("expires", lease.expires);
    return entry;
}

}  // namespace

NetworkPtr NetworkObject::get(const Call& call) const {
    if (auto network = find_network(networks_, call.keys())) return network;
    throw Error{Code::unknown_object, fmt::format("there is no network {}", call.path())};
}

const void* NetworkObject::find(const Keys& keys) const {
    const NetworkPtr network = find_network(networks_, keys);
    return network ? &network->view() : nullptr;
}

void NetworkObject::list(const Keys&, const std::function<void(std::string_view, const void*)>& each) const {
    for (const auto& network : networks_.list()) each(uuid_to_element(network->view().uuid), &network->view());
}

Subject NetworkObject::subject(const Call& call) {
    if (const NetworkPtr network = find_network(networks_, call.keys())) return subject_of(call, *network);
    return {{{"verb", std::string{call.method()}}, {"network-uuid", element_to_uuid(call.keys()[0]).value_or("")}},
            false};
}

Task<> NetworkObject::start(Call& call) {
    co_await answer_when_done(jobs_, get(call)->start(call.caller()));
}

Task<> NetworkObject::stop(Call& call) {
    co_await answer_when_done(jobs_, get(call)->stop(call.caller()));
}

Task<> NetworkObject::set_autostart(Call& call, bool autostart) {
    co_await answer_when_done(jobs_, get(call)->set_autostart(autostart, call.caller()));
}

Task<> NetworkObject::undefine(Call& call) {
    co_await answer_when_done(jobs_, get(call)->undefine(call.caller()));
}

Task<std::string> NetworkObject::get_xml(Call& call, NetworkGetXMLOptions options) {
    co_return get(call)->xml(options.inactive);
}

Task<> NetworkObject::update(Call& call, std::string command, std::string section, std::int32_t parent_index,
                             std::string xml, NetworkUpdateOptions options) {
    NetworkUpdate what{std::move(command), std::move(section), parent_index, std::move(xml)};
    co_await answer_when_done(
        jobs_, get(call)->update(std::move(what), scope_of(options.scope), options.force, call.caller()));
}

Task<std::vector<Dictionary>> NetworkObject::get_leases(Call& call, NetworkGetLeasesOptions options) {
    const NetworkPtr network = get(call);
    if (!options.mac.empty() && !is_mac(options.mac))
        throw Error{Code::invalid_option,
                    fmt::format("option 'mac' of GetLeases is '{}'; it must be a MAC address as 52:54:00:12:34:56",
                                options.mac)};
    std::vector<Dictionary> answer;
    for (auto& lease : network->leases(options.mac)) answer.push_back(lease_dictionary(std::move(lease)));
    co_return answer;
}

}  // namespace virtbus::dbus
