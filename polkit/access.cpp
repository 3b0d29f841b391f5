// SPDX-License-Identifier: LGPL-2.1-or-later
#include "polkit/access.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "virtbus/error.hpp"

namespace virtbus::polkit {

std::string full_action(std::string_view action) {
    auto name = action;
    if (name.starts_with(action_prefix)) name.remove_prefix(action_prefix.size());
    if (std::ranges::find(actions, name) == actions.end())
        throw Error{Code::internal, fmt::format("There is no polkit action {}", action)};
    return fmt::format("{}{}", action_prefix, name);
}

Task<> Access::check(Caller caller, std::string action, Details details, std::stop_token stop) {
    const auto id = full_action(action);
    const auto verdict = co_await authority_.check(std::move(caller), id, std::move(details), std::move(stop));
    if (verdict == Verdict::challenge)
        throw Error{
            Code::interactive_authorization_required,
            fmt::format("{} needs authorization by a dialogue; call again and allow interactive authorization", id)};
    if (verdict == Verdict::denied) throw Error{Code::access_denied, fmt::format("{} is not permitted to you", id)};
}

Task<> Access::check(Caller caller, std::vector<std::string> wanted, Details details, std::stop_token stop) {
    for (const auto& action : wanted) co_await check(caller, action, details, stop);
}

}  // namespace virtbus::polkit
