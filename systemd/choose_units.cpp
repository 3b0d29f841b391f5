// SPDX-License-Identifier: LGPL-2.1-or-later
#include "choose_units.hpp"

#include <fmt/format.h>
#include <sdbus-c++/sdbus-c++.h>
#include <unistd.h>

#include "manager_bus.hpp"
#include "plain_units.hpp"
#include "process.hpp"
#include "transient_units.hpp"

namespace virtbus::systemd {

namespace {

std::unique_ptr<sdbus::IConnection> connect(bool system) {
    return system ? sdbus::createSystemBusConnection() : sdbus::createSessionBusConnection();
}

/// A guest never runs as root: without the user made for it, it gets the one that owns nothing.
std::optional<Account> account_for(const UnitsChoice& choice, Log& log) {
    if (!choice.system_mode || choice.user.empty() || ::geteuid() != 0) return std::nullopt;
    if (auto account = find_account(choice.user)) return account;
    log.warning(fmt::format("There is no user {} (systemd-sysusers makes it); guests run as nobody", choice.user));
    return Account{65534, 65534, {65534}};
}

Task<std::unique_ptr<ManagerBus>> find_manager(Loop& loop, Workers& workers, bool system, Deadline deadline) {
    // Connecting waits for the bus, so a worker does it.
    auto connection = co_await workers.run("The connection to the bus", [system] { return connect(system); }, deadline);
    auto manager = std::make_unique<ManagerBus>(loop, std::move(connection));
    if (!co_await manager->answers(deadline)) co_return nullptr;
    co_return manager;
}

}  // namespace

Task<std::unique_ptr<Units>> choose_units(Loop& loop, Workers& workers, Log& log, UnitsChoice choice,
                                          Deadline deadline) {
    auto account = account_for(choice, log);
    std::unique_ptr<ManagerBus> manager;
    std::string why = "none answers";
    try {
        if (choice.manager) manager = co_await find_manager(loop, workers, choice.system_mode, deadline);
    } catch (const std::exception& error) {
        why = error.what();
    }
    if (manager) {
        TransientUnits::Options options{choice.launcher, std::move(account), choice.system_mode};
        co_return std::make_unique<TransientUnits>(loop, std::move(manager), std::move(options));
    }
    if (choice.manager) log.info(fmt::format("Guests run as plain processes, without a service manager: {}", why));
    co_return std::make_unique<PlainUnits>(loop, choice.launcher, std::move(account));
}

}  // namespace virtbus::systemd
