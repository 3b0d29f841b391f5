// SPDX-License-Identifier: LGPL-2.1-or-later
// Access: may this caller do that? Knows the list of actions and turns a verdict into "go on" or the error for the
// caller. Which method needs which action is written in the interface files and read by dbus/.
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "virtbus/ports.hpp"

namespace virtbus::polkit {

/// Every action there is, without the prefix "org.virtbus1.".
inline constexpr std::array<std::string_view, 18> actions{
    "domain.read",    "domain.read-secure", "domain.start",  "domain.stop",    "domain.configure",  "domain.delete",
    "domain.save",    "domain.snapshot",    "domain.backup", "domain.migrate", "domain.agent",      "domain.dump",
    "domain.console", "network.read",       "network.start", "network.stop",   "network.configure", "network.delete",
};
inline constexpr std::string_view action_prefix{"org.virtbus1."};

/// "org.virtbus1.domain.start" from either form; Internal for an action that is not in the list.
std::string full_action(std::string_view action);

class Access {
public:
    using Details = std::map<std::string, std::string>;

    explicit Access(Authority& authority) : authority_{authority} {}

    /// Returns when the authority said yes to each action. AccessDenied or InteractiveAuthorizationRequired otherwise,
    /// in the same words whether or not the object exists.
    Task<> check(Caller caller, std::string action, Details details, std::stop_token stop = {});
    Task<> check(Caller caller, std::vector<std::string> actions, Details details, std::stop_token stop = {});

private:
    Authority& authority_;
};

}  // namespace virtbus::polkit
