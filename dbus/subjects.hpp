// SPDX-License-Identifier: LGPL-2.1-or-later
// What a question for permission says about the domain it concerns, so that rules can be made per machine.
#pragma once

#include "dbus/server/call.hpp"
#include "service/domain.hpp"

namespace virtbus::dbus {

inline Subject subject_of(const Call& call, const Domain& domain) {
    const DomainView& view = domain.view();
    return {{{"verb", std::string{call.method()}},
             {"driver", view.driver},
             {"domain-name", view.name},
             {"domain-uuid", view.uuid}}};
}

}  // namespace virtbus::dbus
