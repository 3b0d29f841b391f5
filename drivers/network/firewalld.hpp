// SPDX-License-Identifier: LGPL-2.1-or-later
// firewalld's zones: a network's bridge joins the one its definition names, where firewalld runs.
#pragma once

#include <string>

#include "virtbus/ports.hpp"

namespace virtbus::network {

class Firewalld {
public:
    explicit Firewalld(Spawner& spawner, std::string program = "/usr/bin/firewall-cmd")
        : spawner_{spawner}, program_{std::move(program)} {}

    /// UnsupportedConfiguration when firewalld is not there, does not run, or has no such zone.
    Task<> join(std::string bridge, std::string zone, Deadline deadline, std::stop_token stop = {});
    /// A zone or a firewalld that is gone is no error.
    Task<> leave(std::string bridge, std::string zone, Deadline deadline);

private:
    Spawner& spawner_;
    const std::string program_;
};

}  // namespace virtbus::network
