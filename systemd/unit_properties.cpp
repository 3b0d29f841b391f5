// SPDX-License-Identifier: LGPL-2.1-or-later
#include "unit_properties.hpp"

namespace virtbus::systemd {

namespace {

using Property = sdbus::Struct<std::string, sdbus::Variant>;
using Strings = std::vector<std::string>;

template <class T>
void add(UnitProperties& properties, const char* name, T value) {
    properties.emplace_back(std::string{name}, sdbus::Variant{std::move(value)});
}

void add_process(UnitProperties& all, const UnitRequest& request, const TransientUnits::Options& options, int input) {
    using Exec = sdbus::Struct<std::string, Strings, bool>;
    add(all, "Description", request.description.empty() ? request.name : request.description);
    add(all, "Type", std::string{"exec"});
    add(all, "ExecStart", std::vector<Exec>{Exec{options.launcher, Strings{options.launcher}, false}});
    add(all, "StandardInputFileDescriptor", sdbus::UnixFd{input});
    // A clean end would make the manager forget the unit at once, and with it how the guest ended, which a daemon that
    // was away still wants to know. So the unit stays until it has been asked.
    add(all, "RemainAfterExit", true);
    add(all, "KillMode", std::string{"mixed"});
    add(all, "TimeoutStopUSec", std::uint64_t{10'000'000});
    add(all, "UMask", std::uint32_t{0077});
    if (request.memory_locked) {
        add(all, "LimitMEMLOCK", request.memory_locked);
        add(all, "LimitMEMLOCKSoft", request.memory_locked);
    }
}

/// One bit a number, the lowest first.
std::vector<std::uint8_t> bits_of(const std::vector<unsigned>& numbers) {
    std::vector<std::uint8_t> bits;
    for (const auto number : numbers) {
        if (number / 8 >= bits.size()) bits.resize(number / 8 + 1);
        bits[number / 8] = static_cast<std::uint8_t>(bits[number / 8] | 1U << number % 8);
    }
    return bits;
}

void add_limits(UnitProperties& all, const UnitLimits& limits) {
    using Device = sdbus::Struct<std::string, std::uint64_t>;
    const auto set = [&](const char* name, const std::optional<std::uint64_t>& value) {
        if (value) add(all, name, *value);
    };
    set("CPUWeight", limits.cpu_weight);
    set("CPUQuotaPerSecUSec", limits.cpu_quota);
    set("CPUQuotaPeriodUSec", limits.cpu_period);
    set("MemoryHigh", limits.memory_high);
    set("MemoryMax", limits.memory_max);
    set("MemorySwapMax", limits.swap_max);
    set("IOWeight", limits.io_weight);
    const auto set_each = [&](const char* name, std::optional<std::uint64_t> UnitLimits::Device::* value) {
        std::vector<Device> devices;
        for (const auto& device : limits.devices)
            if (device.*value) devices.emplace_back(device.path, *(device.*value));
        if (!devices.empty()) add(all, name, devices);
    };
    set_each("IODeviceWeight", &UnitLimits::Device::weight);
    set_each("IOReadBandwidthMax", &UnitLimits::Device::read_bytes);
    set_each("IOWriteBandwidthMax", &UnitLimits::Device::write_bytes);
    set_each("IOReadIOPSMax", &UnitLimits::Device::reads);
    set_each("IOWriteIOPSMax", &UnitLimits::Device::writes);
    if (!limits.memory_nodes.empty()) add(all, "AllowedMemoryNodes", bits_of(limits.memory_nodes));
}

/// A helper that has the network of the host talks to anybody for its guest: it leaves all else for namespaces of its
/// own.
bool cages_itself(const UnitRequest& request) {
    return !request.helper.empty() && request.network;
}

/// What every manager can grant, the user's own too.
void add_filters(UnitProperties& all, const UnitRequest& request) {
    using Families = sdbus::Struct<bool, Strings>;
    add(all, "NoNewPrivileges", true);
    add(all, "LockPersonality", true);
    const bool as_root = request.capabilities && request.account.empty();
    if (!as_root) add(all, "RestrictSUIDSGID", true);
    add(all, "SystemCallArchitectures", Strings{"native"});
    Strings families{"AF_UNIX"};
    if (request.network) families.insert(families.end(), {"AF_INET", "AF_INET6", "AF_NETLINK"});
    add(all, "RestrictAddressFamilies", Families{true, families});
    if (!as_root && !cages_itself(request)) add(all, "RestrictNamespaces", std::uint64_t{0});
}

/// No SystemCallFilter and no MemoryDenyWriteExecute: QEMU filters its own calls, and its translator writes code.
/// No ProtectKernel*, ProtectControlGroups, ProtectClock, ProtectHostname: they take from root what a user without any
/// capability has not got, and cost more time at each start than all the rest together.
void add_sandbox(UnitProperties& all, const UnitRequest& request) {
    using Device = sdbus::Struct<std::string, std::string>;
    const bool service = !request.account.empty();
    add(all, "PrivateMounts", true);
    // Each of these is a mount or more, and so a good part of the time that a start takes. A service of the host goes
    // without those that hide from its user what anybody may read.
    if (request.shared.empty() && (service || !request.capabilities)) add(all, "ProtectHome", std::string{"yes"});
    if (!service && !request.capabilities) add(all, "PrivateTmp", true);
    if (!service) add(all, "ProtectProc", std::string{"invisible"});
    add(all, "ProtectSystem", std::string{"strict"});
    add(all, "KeyringMode", std::string{"private"});
    add(all, "CapabilityBoundingSet", request.capabilities);
    // A user's process gets no capability by its bounding set alone.
    add(all, "AmbientCapabilities", service ? request.capabilities : std::uint64_t{0});
    auto writable = request.writable;
    if (!service) writable.insert(writable.end(), request.shared.begin(), request.shared.end());
    if (!writable.empty()) add(all, "ReadWritePaths", writable);
    add(all, "DevicePolicy", std::string{"closed"});
    std::vector<Device> devices;
    for (const auto& path : request.devices) devices.emplace_back(path, std::string{"rw"});
    if (!devices.empty()) add(all, "DeviceAllow", devices);
}

/// Whatever is no machine writes no code and needs little of the system.
void add_narrow(UnitProperties& all, Strings more_calls) {
    using Calls = sdbus::Struct<bool, Strings>;
    add(all, "MemoryDenyWriteExecute", true);
    Strings calls{"@system-service"};
    calls.insert(calls.end(), more_calls.begin(), more_calls.end());
    add(all, "SystemCallFilter", Calls{true, calls});
}

/// A helper is stopped with its machine, after it.
void add_helper(UnitProperties& all, UnitRequest request, bool system) {
    const bool mounts = request.capabilities || cages_itself(request);
    request.helper.clear();
    const Strings machine{unit_name(request)};
    add(all, "PartOf", machine);
    add(all, "Before", machine);
    Strings calls{"seccomp"};  // it narrows itself further
    if (mounts) calls.emplace_back("@mount");
    add_narrow(all, calls);
    if (system && !request.network) add(all, "PrivateNetwork", true);
}

std::string slice_of(const UnitRequest& request) {
    if (!request.slice.empty()) return slice_name(request.slice);
    return request.account.empty() ? "machine.slice" : "system.slice";
}

void add_user(UnitProperties& all, const Account& account) {
    add(all, "User", std::to_string(account.uid));
    add(all, "Group", std::to_string(account.gid));
    Strings groups;
    for (const auto group : account.groups) groups.push_back(std::to_string(group));
    add(all, "SupplementaryGroups", groups);
}

}  // namespace

UnitProperties unit_properties(const UnitRequest& request, const TransientUnits::Options& options, int standard_input,
                               const std::optional<Account>& account) {
    UnitProperties all;
    add_process(all, request, options, standard_input);
    add_filters(all, request);
    add_limits(all, request.limits);
    if (!request.helper.empty()) add_helper(all, request, options.system);
    if (!request.account.empty()) add_narrow(all, {});
    if (!options.system) {
        if (!request.slice.empty()) add(all, "Slice", slice_name(request.slice));
        return all;
    }
    add(all, "Slice", slice_of(request));
    // Stopped after that service has shut the guests down in its own way, which may need their network.
    if (request.helper.empty()) add(all, "Before", Strings{"virtbus-guests.service"});
    add_sandbox(all, request);
    if (account) add_user(all, *account);
    return all;
}

}  // namespace virtbus::systemd
