// SPDX-License-Identifier: LGPL-2.1-or-later
// Asks the authority about a call, and remembers for a few seconds that a caller may read. Which actions a method needs
// is written in the interface files; what the answer is, decided in polkit/.
#pragma once

#include <functional>
#include <map>
#include <stop_token>
#include <string>

#include "virtbus/caller.hpp"
#include "virtbus/loop.hpp"
#include "virtbus/task.hpp"

namespace virtbus::dbus {

using Details = std::map<std::string, std::string>;

/// Returns when allowed, throws AccessDenied or InteractiveAuthorizationRequired otherwise.
using PermissionCheck = std::function<Task<>(Caller caller, std::string action, Details details, std::stop_token stop)>;

/// A tool that reads every second would cost a round trip to polkit each time. So a "yes" to an action that only reads
/// ("*.read") is remembered per caller, action and details for five seconds: the caller is one connection, whose user
/// cannot change, and with all details in the key no rule can be bypassed that looks at them. What a change of the
/// rules takes away may therefore be read for five seconds more, as it could have been a moment earlier. Refusals and
/// all other actions are asked about each time.
class Permissions {
public:
    explicit Permissions(PermissionCheck check) : check_{std::move(check)} {}
    Task<> require(Caller caller, std::string action, Details details, std::stop_token stop);
    void forget(const std::string& caller);

private:
    using Question = std::pair<std::string, Details>;
    bool remembered(const std::string& caller, const Question& question) const;

    PermissionCheck check_;
    std::map<std::string, std::map<Question, Deadline>> granted_;
};

}  // namespace virtbus::dbus
