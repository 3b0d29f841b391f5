// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/dbus/lamps.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace virtbus::dbus {

ObjectPath lamp_neighbour(const LampView& view) {
    return view.neighbour.empty() ? ObjectPath{} : ObjectPath{"/org/example/lamp/" + view.neighbour};
}

LampView& Lamps::get(const Call& call) {
    handled++;
    last_caller = call.caller();
    const auto found = views.find(call.keys()[0]);
    if (found == views.end()) throw Error{Code::unknown_object, "the lamp is gone"};
    return found->second;
}

Task<std::string> Lamps::switch_(Call& call, bool lit, LampSwitchOptions options) {
    LampView& view = get(call);
    const LampView before = view;
    view.lit = lit;
    if (options.level) view.level = options.level;
    view.history.push_back(lit ? "on" : "off");
    signals->properties_changed(std::string{call.path()}, lamp_interface, &before, &view);
    lamp_signals::switched(*signals, std::string{call.path()}, lit, view.name);
    co_return fmt::format("{} {} {} {}", lit, options.level, options.colour, fmt::join(options.tags, ","));
}

Task<> Lamps::break_(Call& call, std::string how) {
    get(call);
    if (how == "state") throw Error{Code::invalid_state, "it is broken already"};
    if (how == "standard") throw std::out_of_range{"what no room expected"};
    if (how == "nothing") throw 42;
    if (how == "bytes") throw Error{Code::hypervisor_failed, "its last words: \xff\xfe"};
    co_return;
}

Task<> Lamps::wait(Call& call) {
    get(call);
    Reply<> reply{loop_};
    waiting.push_back(reply.promise());
    co_await reply.wait("the test", std::nullopt);
}

Task<LampShineResult> Lamps::shine(Call& call) {
    get(call);
    int ends[2];
    if (::pipe(ends) < 0) throw Error{Code::internal, "no pipe"};
    const Fd in{ends[1]};
    Fd out{ends[0]};
    if (::write(in.get(), "beam", 4) != 4) throw Error{Code::internal, "no beam"};
    co_return LampShineResult{std::move(out), "white"};
}

Task<std::string> Lamps::glow(Call& call, std::uint32_t bytes) {
    get(call);
    co_return std::string(bytes, '*');
}

Task<> Lamps::engrave(Call& call, std::string text) {
    get(call).history.push_back(fmt::format("{} bytes", text.size()));
    co_return;
}

Task<> Rules::check(Caller caller, std::string action, Details details, std::stop_token stop) {
    asked.push_back({action, details, caller.interactive});
    if (held) {
        Reply<> reply{loop};
        pending.push_back(reply.promise());
        try {
            co_await reply.wait("permission", std::nullopt, stop);
        } catch (const Cancelled&) {
            dropped++;
            throw;
        }
    }
    if (!allowed) throw Error{Code::access_denied, "permission denied for " + action};
}

}  // namespace virtbus::dbus
