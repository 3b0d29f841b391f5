// SPDX-License-Identifier: LGPL-2.1-or-later
// Devices of a test guest: they come when asked, and go when the guest lets go of them.
#include <fmt/format.h>

#include <algorithm>

#include "test/guest.hpp"
#include "test/names.hpp"
#include "virtbus/error.hpp"
#include "virtbus/model/device_lists.hpp"

namespace virtbus::test_driver {

Task<> TestGuest::prepare(DeviceRequest& request, Device& device, bool fresh, std::stop_token stop) {
    co_await reach();
    if (auto* disk = std::get_if<Disk>(&device); disk && behaviour_.open_disks && disk->source)
        (void)co_await request.resources.open_file(disk->source->file,
                                                   disk->readonly ? Access::read : Access::read_write);
    if (auto* interface = std::get_if<Interface>(&device); fresh && interface && needs_link(interface->type)) {
        LinkRequest wanted{.domain_uuid = config_.uuid, .domain_name = config_.name, .interface = *interface};
        const auto link = co_await request.resources.open_link(std::move(wanted));
        if (link.interface) *interface = *link.interface;
        if (!interface->target) interface->target.emplace();
        interface->target->dev = link.ifname;
    }
    if (auto* hostdev = std::get_if<Hostdev>(&device); hostdev && behaviour_.take_devices)
        co_await request.resources.take_pci(pci_devices({*hostdev}));
    if (behaviour_.hang_attach) {
        Reply<> never{loop_};
        hanging_.push_back(never.promise());
        co_await never.wait(fmt::format("a device of test domain '{}'", config_.name), std::nullopt, stop);
    }
    co_await sleep(loop_, Duration{0}, stop);
    if (gone_) throw Error{Code::hypervisor_failed, fmt::format("test domain '{}' has ended", config_.name)};
    if (!behaviour_.fail_attach.empty())
        throw Error{Code::hypervisor_failed, fmt::format("domain '{}': {}", config_.name, behaviour_.fail_attach)};
}

Task<> TestGuest::attach(DeviceRequest request, std::stop_token stop) {
    auto device = std::move(request.device);
    auto* info = find_info(device);
    if (!info)
        throw Error{Code::unsupported,
                    fmt::format("test domain '{}' takes no device of this kind while it runs", config_.name)};
    auto trial = config_;
    const auto kind = device.index();
    const auto number = add_device(trial, device);
    name_devices(trial);
    info->alias = find_info(device_at(trial.devices, kind, number))->alias;
    if (record_.leaving.contains(info->alias))
        throw Error{Code::device_in_use,
                    fmt::format("test domain '{}': device '{}' is still on its way out", config_.name, info->alias)};
    co_await prepare(request, device, true, stop);
    const auto alias = find_info(device)->alias;
    (void)add_device(config_, std::move(device));
    events_.config_changed(config_);
    events_.device_added(alias);
}

Task<> TestGuest::update(DeviceRequest request, std::stop_token stop) {
    auto device = std::move(request.device);
    const auto* info = find_info(device);
    const auto alias = info ? info->alias : std::string{};
    co_await prepare(request, device, false, stop);
    const auto place = find_alias(config_.devices, alias);
    if (alias.empty()) {
        replace_device(config_.devices, 0, std::move(device));
    } else {
        if (!place) throw Error{Code::no_such_device, fmt::format("test domain '{}' has no '{}'", config_.name, alias)};
        replace_device(config_.devices, place->number, std::move(device));
    }
    events_.config_changed(config_);
}

void TestGuest::device_left(const std::string& alias) {
    record_.leaving.erase(alias);
    if (const auto place = find_alias(config_.devices, alias)) {
        remove_device(config_, place->kind, place->number);
        events_.config_changed(config_);
        events_.device_removed(alias);
    }
    const auto [first, last] = waiting_for_device_.equal_range(alias);
    for (auto i = first; i != last; ++i) i->second.set();
    waiting_for_device_.erase(alias);
}

void TestGuest::arm_leaving(const std::string& alias) {
    const auto when = record_.leaving.at(alias), now = clock_.now();
    if (when == 0) return;
    const auto left = when > now ? (when - now + 999) / 1000 : 0;
    leaving_timers_[alias] = loop_.after(Duration{left}, [this, name = alias] { device_left(name); });
}

Task<> TestGuest::detach(std::string alias, bool, std::stop_token stop) {
    co_await reach();
    if (!find_alias(config_.devices, alias))
        throw Error{Code::no_such_device, fmt::format("test domain '{}' has no device '{}'", config_.name, alias)};
    if (behaviour_.unplug == "refuse") {
        later([this, alias] { events_.device_removal_failed(alias); });
        throw Error{Code::device_in_use,
                    fmt::format("the guest in domain '{}' refuses to give '{}' up", config_.name, alias)};
    }
    if (!record_.leaving.contains(alias)) {
        const auto delay = static_cast<std::uint64_t>(behaviour_.unplug_delay.count()) * 1000;
        record_.leaving[alias] = behaviour_.unplug == "ignore" ? 0 : clock_.now() + delay;
        arm_leaving(alias);
        events_.config_changed(config_);  // the request is part of what is recorded
    }
    Reply<> left{loop_};
    waiting_for_device_.emplace(alias, left.promise());
    bool late = false;
    try {
        co_await left.wait(fmt::format("the guest's giving up '{}'", alias), in(behaviour_.unplug_wait), stop);
    } catch (const Error& e) {
        late = e.code() == Code::timeout;
        if (!late) throw;
    }
    if (late)
        throw Error{Code::timeout,
                    fmt::format("the guest in domain '{}' has not given '{}' up yet; the request stands, "
                                "and DeviceRemoved will tell",
                                config_.name, alias)};
}

Task<> TestGuest::set_memory(std::uint64_t bytes, std::stop_token) {
    co_await reach();
    config_.current_memory = bytes;
    events_.config_changed(config_);
}

Task<> TestGuest::set_vcpus(std::uint32_t count, std::stop_token) {
    co_await reach();
    config_.vcpu_current = count == config_.vcpu.value_or(1) ? std::nullopt : std::optional{count};
    events_.config_changed(config_);
}

}  // namespace virtbus::test_driver
