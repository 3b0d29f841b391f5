// SPDX-License-Identifier: LGPL-2.1-or-later
// What all networks of a host share: its rule table, its forwarding, its firewall daemon.
#pragma once

#include <string>

#include "network/firewalld.hpp"
#include "network/rule_table.hpp"
#include "network/sysctl.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::network {

struct NetworkHost {
    explicit NetworkHost(Ports& all)
        : ports{all}, forwarding{all.folders.runtime + "/forwarding"}, firewalld{all.spawner} {}

    Ports& ports;
    RuleTable rules;
    Forwarding forwarding;
    Firewalld firewalld;
};

}  // namespace virtbus::network
