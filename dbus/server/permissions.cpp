// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/permissions.hpp"

namespace virtbus::dbus {

namespace {
constexpr Duration remembered_for = std::chrono::seconds{5};
constexpr std::size_t most_remembered = 256;  // for one caller
}  // namespace

bool Permissions::remembered(const std::string& caller, const Question& question) const {
    const auto grants = granted_.find(caller);
    if (grants == granted_.end()) return false;
    const auto grant = grants->second.find(question);
    return grant != grants->second.end() && grant->second > std::chrono::steady_clock::now();
}

Task<> Permissions::require(Caller caller, std::string action, Details details, std::stop_token stop) {
    const bool only_reads = action.ends_with(".read");
    Question question{action, details};
    if (only_reads && remembered(caller.name, question)) co_return;
    const Deadline until = in(remembered_for);
    co_await check_(caller, action, std::move(details), stop);
    // A caller that has left meanwhile would never be forgotten again.
    if (!only_reads || stop.stop_requested()) co_return;
    auto& grants = granted_[caller.name];
    if (grants.size() >= most_remembered) grants.clear();
    grants[std::move(question)] = until;
}

void Permissions::forget(const std::string& caller) {
    granted_.erase(caller);
}

}  // namespace virtbus::dbus
