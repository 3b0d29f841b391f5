// SPDX-License-Identifier: LGPL-2.1-or-later
// Virtual CPUs that come and go.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qemu/hotplug/departure.hpp"
#include "qemu/json.hpp"
#include "qemu/pins.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

struct Slot {
    std::string type, path;  ///< path: of the CPU in it; "" = free
    json props;
    std::uint64_t vcpus = 1;
};

std::vector<std::uint64_t> order_of(const json& props) {
    std::vector<std::uint64_t> key;
    for (const auto* name : {"node-id", "socket-id", "die-id", "cluster-id", "core-id", "thread-id"})
        key.push_back(number(props, name));
    return key;
}

Task<std::vector<Slot>> slots_of(CorePtr core, std::stop_token stop) {
    json answer;
    try {
        answer = co_await core->open_monitor().execute("query-hotpluggable-cpus", core->verb_deadline(), stop);
    } catch (const Error& error) {
        if (error.code() == Code::timeout || error.code() == Code::cancelled || core->is_gone()) throw;
        throw Error{Code::unsupported, fmt::format("{}: the machine {} has no CPUs that can be plugged", core->who(),
                                                   core->config.os.machine)};
    }
    std::vector<Slot> slots;
    for (const auto& each : answer)
        slots.push_back(
            {text(each, "type"), text(each, "qom-path"), member(each, "props"), number(each, "vcpus-count", 1)});
    std::ranges::sort(slots, {}, [](const Slot& slot) { return order_of(slot.props); });
    co_return slots;
}

std::uint64_t count_of(const std::vector<Slot>& slots) {
    std::uint64_t count = 0;
    for (const auto& slot : slots) count += slot.path.empty() ? 0 : slot.vcpus;
    return count;
}

void note_count(GuestCore& core, std::uint64_t count) {
    auto& config = core.config;
    const auto now = static_cast<std::uint32_t>(count);
    const auto noted = now == config.vcpu.value_or(1) ? std::nullopt : std::optional{now};
    if (config.vcpu_current == noted) return;
    config.vcpu_current = noted;
    for (auto& vcpu : config.vcpus) vcpu.enabled = vcpu.id < now;
    core.tell_config();
}

Task<> pin(CorePtr core) {
    if (!has_pins(core->config)) co_return;
    const auto asked = core->open_monitor().send("query-cpus-fast"),
               threads = core->open_monitor().send("query-iothreads");
    const auto cpus = co_await asked.get(core->verb_deadline());
    const auto iothreads = co_await threads.get(core->verb_deadline());
    const auto plan = plan_pins(core->config, cpus, iothreads, threads_of(static_cast<pid_t>(core->record.pid)));
    if (const auto problem = apply_pins(plan); !problem.empty())
        core->ports.log.warning(fmt::format("{} runs without some of its pins: {}", core->who(), problem));
}

Task<> plug(CorePtr core, const Slot& slot, std::size_t number, std::stop_token stop) {
    json device = slot.props;
    device["driver"] = slot.type;
    device["id"] = fmt::format("vcpu{}", number);
    co_await core->open_monitor().execute("device_add", device, core->verb_deadline(), stop);
}

std::string name_in(const std::string& path) {
    constexpr std::string_view folder = "/machine/peripheral/";
    return path.starts_with(folder) ? path.substr(folder.size()) : path;
}

/// True when the guest has let go of it.
Task<bool> unplug(CorePtr core, const Slot& slot, std::stop_token stop) {
    const auto name = name_in(slot.path);
    Departure departure{core, name};
    co_await core->open_monitor().execute("device_del", json{{"id", name}}, core->verb_deadline(), stop);
    co_return co_await departure.wait(in(core->times.unplug), stop);
}

}  // namespace

Task<> set_vcpus(CorePtr core, std::uint32_t count, std::stop_token stop) {
    (void)core->open_monitor();
    auto slots = co_await slots_of(core, stop);
    auto there = count_of(slots);
    if (slots.empty())
        throw Error{Code::unsupported, fmt::format("{}: this machine has no CPUs that can be plugged", core->who())};
    if (const auto step = slots.front().vcpus; count % step != 0)
        throw Error{Code::invalid_args,
                    fmt::format("{}: vcpus come and go {} at a time on this machine", core->who(), step)};
    std::exception_ptr failure;
    bool late = false;
    try {
        for (std::size_t i = 0; i < slots.size() && there < count; ++i) {
            if (!slots[i].path.empty()) continue;
            co_await plug(core, slots[i], i, stop);
            there += slots[i].vcpus;
        }
        for (auto i = slots.size(); i-- > 1 && there > count && !late;) {
            if (slots[i].path.empty()) continue;
            late = !co_await unplug(core, slots[i], stop);
            if (!late) there -= slots[i].vcpus;
        }
    } catch (...) {
        failure = std::current_exception();
    }
    if (core->is_gone()) throw Error{Code::hypervisor_failed, fmt::format("{} has ended", core->who())};
    note_count(*core, there);
    if (failure) std::rethrow_exception(failure);
    if (late)
        throw Error{
            Code::timeout,
            fmt::format("{}: the guest was asked to give up a CPU and has not done so yet; {} are there, and the "
                        "request stands",
                        core->who(), there)};
    co_await pin(core);
}

}  // namespace virtbus::qemu
