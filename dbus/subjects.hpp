// SPDX-License-Identifier: LGPL-2.1-or-later
// The domain or network that a call on its path, or on one below it, is about; and what a question for permission says
// about it, so that rules can be made per machine and per network.
#pragma once

#include <fmt/format.h>

#include "dbus/paths.hpp"
#include "dbus/server/call.hpp"
#include "service/domains.hpp"
#include "service/networks.hpp"
#include "virtbus/error.hpp"

namespace virtbus::dbus {

inline Subject subject_of(const Call& call, const Domain& domain) {
    const DomainView& view = domain.view();
    return {{{"verb", std::string{call.method()}},
             {"driver", view.driver},
             {"domain-name", view.name},
             {"domain-uuid", view.uuid}}};
}

inline DomainPtr find_domain(const Domains& domains, const Keys& keys) {
    const auto uuid = element_to_uuid(keys[0]);
    return uuid ? domains.find(*uuid) : nullptr;
}

inline DomainPtr get_domain(const Domains& domains, const Call& call) {
    if (auto domain = find_domain(domains, call.keys())) return domain;
    throw Error{Code::unknown_object, fmt::format("there is no domain {}", call.path())};
}

/// The subject of a call on a domain's path, whether or not it exists.
inline Subject subject_of_path(const Domains& domains, const Call& call) {
    if (const DomainPtr domain = find_domain(domains, call.keys())) return subject_of(call, *domain);
    return {{{"verb", std::string{call.method()}}, {"domain-uuid", element_to_uuid(call.keys()[0]).value_or("")}},
            false};
}

inline Subject subject_of(const Call& call, const Network& network) {
    const NetworkView& view = network.view();
    return {{{"verb", std::string{call.method()}}, {"network-name", view.name}, {"network-uuid", view.uuid}}};
}

inline NetworkPtr find_network(const Networks& networks, const Keys& keys) {
    const auto uuid = element_to_uuid(keys[0]);
    return uuid ? networks.find(*uuid) : nullptr;
}

}  // namespace virtbus::dbus
