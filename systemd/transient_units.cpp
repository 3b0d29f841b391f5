// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transient_units.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include "bus_call.hpp"
#include "launch/launch.hpp"
#include "manager_bus.hpp"
#include "process.hpp"
#include "unit_properties.hpp"
#include "virtbus/error.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::systemd {

namespace {

constexpr std::size_t unit_name_limit = 200;  // of 255; the rest is room for prefix and suffix
constexpr std::size_t machine_name_limit = 64;
constexpr Duration status_pause{2};
constexpr Duration status_pause_limit{64};

bool is_alphanumeric(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// As systemd-escape does it.
std::string escape(std::string_view text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const bool plain = is_alphanumeric(c) || c == ':' || c == '_' || (c == '.' && i > 0);
        auto piece = plain ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        if (result.size() + piece.size() > unit_name_limit) break;
        result += piece;
    }
    return result;
}

std::vector<std::uint8_t> machine_id(const std::string& uuid) {
    std::string digits = uuid;
    std::erase(digits, '-');
    std::vector<std::uint8_t> id;
    if (digits.size() != 32) return id;
    for (std::size_t at = 0; at < digits.size(); at += 2)
        id.push_back(static_cast<std::uint8_t>(std::stoul(digits.substr(at, 2), nullptr, 16)));
    return id;
}

}  // namespace

std::string unit_name(const UnitRequest& request) {
    // A hyphen in a name is escaped, so that no machine's name can look like a helper's.
    return fmt::format("virtbus-{}-{}-{}{}.service", request.driver, request.id, escape(request.name),
                       request.helper.empty() ? "" : "-" + escape(request.helper));
}

std::string machine_name(const UnitRequest& request) {
    const auto wanted = fmt::format("{}-{}-{}", request.driver, request.id, request.name);
    std::string result;
    for (const char c : wanted) {
        const char next = is_alphanumeric(c) ? c : '-';
        if (next == '-' && (result.empty() || result.back() == '-')) continue;
        if (result.size() == machine_name_limit) break;
        result += next;
    }
    while (!result.empty() && result.back() == '-') result.pop_back();
    return result;
}

std::string slice_name(const std::string& partition) {
    if (partition.ends_with(".slice") && !partition.starts_with('/')) return partition;
    std::string result;
    std::string_view left{partition};
    while (!left.empty()) {
        const auto end = std::min(left.find('/'), left.size());
        if (const auto part = left.substr(0, end); !part.empty()) result += (result.empty() ? "" : "-") + escape(part);
        left.remove_prefix(std::min(end + 1, left.size()));
    }
    return result.empty() ? "-.slice" : result + ".slice";
}

TransientUnits::TransientUnits(Loop& loop, std::unique_ptr<ManagerBus> manager, Options options)
    : loop_{loop}, manager_{std::move(manager)}, options_{std::move(options)} {}

TransientUnits::~TransientUnits() = default;

Task<Unit> TransientUnits::start(UnitRequest request, Deadline deadline, std::stop_token stop) {
    const auto unit = unit_name(request);
    const auto owner = request.account.empty() ? options_.account : account_of(request, options_.account);
    if (options_.system && owner) hand_over(request.writable, *owner);
    if (options_.account) give_nodes(request.given, *options_.account);
    Launch launch{loop_, request, std::nullopt};
    std::exception_ptr failure;
    bool ours = true;
    try {
        co_await run(launch, unit, request, deadline, std::move(stop));
    } catch (const Error& error) {
        failure = std::current_exception();
        ours = error.code() != Code::already_exists;  // whoever has the name keeps it
    }
    if (failure) {
        signal_process(launch.started().pidfd, SIGKILL);
        if (ours) manager_->kill(unit);
        if (ours) manager_->discard(unit);
        std::rethrow_exception(failure);
    }
    const auto pid = launch.started().pid;
    if (options_.system && request.helper.empty() && request.account.empty()) register_machine(request, pid);
    co_return Unit{pid, std::move(launch.started().pidfd), unit};
}

Task<> TransientUnits::run(Launch& launch, std::string unit, UnitRequest request, Deadline deadline,
                           std::stop_token stop) {
    std::string job_failed;
    const auto job = manager_->on_job(unit, [&](const std::string& result) {
        if (result == "done") return;
        job_failed = result;
        launch.fail(fmt::format("systemd did not start {}: {}", unit, result));
    });
    co_await create(unit, request, launch.standard_input(), deadline);
    launch.release_standard_input();
    std::exception_ptr failure;
    try {
        co_await launch.wait(deadline, std::move(stop));
    } catch (const Error& error) {
        failure = std::current_exception();
        if (launch.started().pid || error.code() != Code::hypervisor_failed) std::rethrow_exception(failure);
    }
    if (failure) throw Error{Code::hypervisor_failed, co_await why_failed(unit, job_failed)};
}

Task<> TransientUnits::create(std::string unit, UnitRequest request, int standard_input, Deadline deadline) {
    const auto properties = unit_properties(request, options_, standard_input, account_of(request, options_.account));
    bool discarded = false;
    for (auto pause = status_pause;; pause = std::min(pause * 2, status_pause_limit)) {
        try {
            co_await manager_->start_transient(unit, properties, deadline);
            co_return;
        } catch (const BusError& error) {
            const bool exists = error.name() == "org.freedesktop.systemd1.UnitExists";
            if (!exists || std::chrono::steady_clock::now() > deadline)
                throw Error{Code::hypervisor_failed,
                            fmt::format("systemd refused the unit {}: {}", unit, error.what())};
        }
        if (!discarded) co_await discard_left_over(unit, deadline);
        discarded = true;
        co_await sleep(loop_, pause);
    }
}

/// Removes the end of an earlier guest that nobody asked about.
Task<> TransientUnits::discard_left_over(std::string unit, Deadline deadline) {
    const auto process = co_await manager_->main_process(unit, deadline);
    if (process.pid && !process.code)
        throw Error{Code::already_exists, fmt::format("The unit {} still runs process {}", unit, process.pid)};
    manager_->discard(unit);
}

Task<std::string> TransientUnits::why_failed(std::string unit, std::string result) {
    MainProcess process;
    try {
        process = co_await manager_->main_process(unit, in(Duration{1000}));
    } catch (const Error&) {
        // The manager has forgotten it; the result of the job has to do.
    }
    co_return fmt::format("systemd could not start {} ({}, status {}); its journal has the reason", unit,
                          result.empty() ? "the launcher ended" : result, process.status);
}

void TransientUnits::register_machine(const UnitRequest& request, std::uint32_t leader) {
    manager_->register_machine(machine_name(request), machine_id(request.uuid), leader);
}

std::optional<Unit> TransientUnits::adopt(std::uint32_t pid, std::uint64_t start_time, const std::string& unit) {
    return find_process(pid, start_time, unit);
}

void TransientUnits::kill(const Unit& unit, bool graceful) {
    // The main process at once, without a round trip; the manager then ends what it may have left behind.
    signal_process(unit.pidfd, graceful ? SIGTERM : SIGKILL);
    if (!graceful && !unit.name.empty()) manager_->kill(unit.name);
}

Task<ExitStatus> TransientUnits::exit_status(std::string unit, std::uint32_t pid, Deadline deadline) {
    if (unit.empty()) co_return ExitStatus{};
    // The pidfd may be readable a moment before the manager has reaped the process.
    for (auto pause = status_pause;; pause = std::min(pause * 2, status_pause_limit)) {
        const auto process = co_await manager_->main_process(unit, deadline);
        if (process.pid != pid) co_return ExitStatus{};
        if (process.code) {
            manager_->discard(unit);
            const bool exited = process.code == CLD_EXITED;
            co_return ExitStatus{true, exited ? process.status : 0, exited ? 0 : process.status};
        }
        if (std::chrono::steady_clock::now() > deadline)
            throw Error{Code::timeout, fmt::format("systemd did not say in time how {} ended", unit)};
        co_await sleep(loop_, pause);
    }
}

Task<> TransientUnits::allow(std::string unit, std::uint32_t pid, UnitGrant grant, Deadline deadline) {
    if (options_.account) give_nodes(grant.given, *options_.account);
    let_lock(pid, grant.memory_locked);
    if (!options_.system || grant.devices.empty()) co_return;
    DeviceList added;
    for (const auto& path : grant.devices) added.emplace_back(path, std::string{"rw"});
    co_await set_devices(unit, {std::move(added)}, deadline);
}

Task<> TransientUnits::deny(std::string unit, UnitGrant grant, Deadline deadline) {
    if (options_.account) take_nodes(grant.given, *options_.account);
    if (!options_.system || grant.devices.empty()) co_return;
    auto left = co_await manager_->devices(unit, deadline);
    std::erase_if(left, [&](const auto& each) {
        return std::ranges::find(grant.devices, each.template get<0>()) != grant.devices.end();
    });
    // Lists are added to the one that is there; an empty one clears it.
    co_await set_devices(std::move(unit), {DeviceList{}, std::move(left)}, deadline);
}

/// The manager answers before it has told the kernel, which it does before it answers anything else.
Task<> TransientUnits::set_devices(std::string unit, std::vector<DeviceList> lists, Deadline deadline) {
    UnitProperties properties;
    for (auto& list : lists) properties.emplace_back(std::string{"DeviceAllow"}, sdbus::Variant{std::move(list)});
    try {
        co_await manager_->set_properties(unit, std::move(properties), deadline);
        co_await manager_->devices(unit, deadline);
    } catch (const BusError& error) {
        throw Error{Code::hypervisor_failed,
                    fmt::format("systemd refused to change the devices of the unit {}: {}", unit, error.what())};
    }
}

}  // namespace virtbus::systemd
