// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices that go: what stands behind them is taken away, now or by a later daemon.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qemu/chipset.hpp"
#include "qemu/hotplug/departure.hpp"
#include "qemu/hotplug/plan.hpp"
#include "qemu/hotplug/plug.hpp"
#include "qemu/hotplug/remains.hpp"
#include "qemu/json.hpp"
#include "virtbus/model/console_pair.hpp"
#include "virtbus/model/device_lists.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

bool has_device(const std::vector<std::string>& parts) {
    return std::ranges::any_of(parts, [](const auto& part) { return Part::from_text(part).is_device(); });
}

}  // namespace

Task<> release(CorePtr core, std::string alias, std::string path) {
    if (core->record.parts.contains(alias)) {
        // Told of twice when it goes while a daemon compares what is there.
        if (!core->releasing.insert(alias).second) co_return;
        co_await remove_parts(core, core->record.parts[alias]);
        core->record.parts.erase(alias);
        core->releasing.erase(alias);
    }
    core->record.leaving.erase(alias);
    const auto place = find_alias(core->config.devices, alias);
    if (place) {
        const auto sockets = sockets_of(device_at(core->config.devices, place->kind, place->number));
        remove_device(core->config, place->kind, place->number);
        if (place->kind == kind_of<Serial>) drop_console_of_serial(core->config.devices);
        co_await remove_sockets(core, sockets);
    }
    co_await leave_nothing_idle(core);
    // Only processors go under a name that no device of the definition has, or under none.
    const auto vcpus = core->config.vcpu_current.value_or(core->config.vcpu.value_or(1));
    if (!place && vcpus > 1 && (alias.starts_with("vcpu") || alias.empty())) core->config.vcpu_current = vcpus - 1;
    if (!core->is_gone()) {
        core->tell_config();
        if (place) core->tell_removed(alias);
    }
    core->departed(alias);
    core->departed(path);
}

Task<> detach(CorePtr core, std::string alias, std::stop_token stop) {
    (void)core->open_monitor();
    const auto place = find_alias(core->config.devices, alias);
    if (!place) throw Error{Code::no_such_device, fmt::format("{} has no device '{}'", core->who(), alias)};
    require_detachable(core->config, device_at(core->config.devices, place->kind, place->number));
    const auto parts = core->record.parts.find(alias);
    if (parts == core->record.parts.end())
        throw Error{Code::unsupported,
                    fmt::format("{}: '{}' is a part of the machine and cannot be unplugged", core->who(), alias)};
    if (!has_device(parts->second)) co_return co_await release(core, std::move(alias), {});
    const bool again = !core->record.leaving.insert(alias).second;
    core->tell_config();
    std::exception_ptr failure;
    const auto deadline = in(core->times.unplug);
    Departure departure{core, alias};
    try {
        co_await core->open_monitor().execute("device_del", json{{"id", alias}}, core->verb_deadline(), stop);
    } catch (const Error& error) {
        // Asking a second time may be refused while the first request stands.
        if (!again || error.code() != Code::hypervisor_failed || core->is_gone()) failure = std::current_exception();
    }
    if (failure) {
        if (!again) core->record.leaving.erase(alias);
        core->tell_config();
        std::rethrow_exception(failure);
    }
    if (!co_await departure.wait(deadline, stop))
        throw Error{
            Code::timeout,
            fmt::format("{}: the guest was asked to give up '{}' and has not done so yet; the request stands, and "
                        "DeviceRemoved will tell",
                        core->who(), alias)};
}

namespace {

/// `names`: of the devices that QEMU has.
Task<> take_back_coming(CorePtr core, std::set<std::string> names) {
    log_warning(*core, fmt::format("{}: what was being plugged or taken away when the daemon ended goes", core->who()));
    std::vector<Part> devices, others;
    for (const auto& word : std::exchange(core->record.coming, {})) {
        auto part = Part::from_text(word);
        if (part.kind != Part::Kind::device)
            others.push_back(std::move(part));
        else if (names.contains(part.id))
            devices.push_back(std::move(part));
    }
    devices.insert(devices.begin(), others.begin(), others.end());
    co_await take_back(core, std::move(devices), {});
    core->tell_config();
}

}  // namespace

Task<> reconcile(CorePtr core, json present) {
    std::set<std::string> names;
    for (const auto& child : present) names.insert(text(child, "name"));
    std::vector<std::string> gone;
    for (const auto& [alias, parts] : core->record.parts)
        if (has_device(parts) && !names.contains(alias)) gone.push_back(alias);
    for (const auto& alias : gone) co_await release(core, alias, {});
    if (!core->is_gone() && !core->record.coming.empty()) co_await take_back_coming(core, names);
    if (!core->is_gone()) co_await leave_nothing_idle(core);
}

}  // namespace virtbus::qemu
