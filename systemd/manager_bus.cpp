// SPDX-License-Identifier: LGPL-2.1-or-later
#include "manager_bus.hpp"

#include <sdbus-c++/sdbus-c++.h>
#include <systemd/sd-bus.h>

#include <cstdlib>

#include "bus_call.hpp"
#include "bus_source.hpp"

namespace virtbus::systemd {

namespace {

constexpr auto manager_name = "org.freedesktop.systemd1";
constexpr auto manager_interface = "org.freedesktop.systemd1.Manager";
constexpr auto service_interface = "org.freedesktop.systemd1.Service";
constexpr auto properties_interface = "org.freedesktop.DBus.Properties";

using AuxiliaryUnits = std::vector<sdbus::Struct<std::string, UnitProperties>>;

std::string unit_path(const std::string& unit) {
    char* path = nullptr;
    if (sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit.c_str(), &path) < 0)
        throw Error{Code::internal, "The unit name " + unit + " has no object path"};
    std::string result{path};
    std::free(path);
    return result;
}

/// A call whose answer changes nothing here.
template <class... Args>
void send(sdbus::IProxy& proxy, BusMethod method, const Args&... args) {
    try {
        send_call(proxy, method, [](const sdbus::Error*) {}, args...);
    } catch (const BusError&) {
        // Only a lost connection fails here, and then the answer would not have come either.
    }
}

}  // namespace

struct ManagerBus::Listener final : Registered {
    Listener(std::shared_ptr<Listeners> all, std::string name) : listeners{std::move(all)}, unit{std::move(name)} {}
    ~Listener() override { listeners->erase(unit); }
    std::shared_ptr<Listeners> listeners;
    std::string unit;
};

ManagerBus::ManagerBus(Loop& loop, std::unique_ptr<sdbus::IConnection> connection)
    : loop_{loop},
      connection_{std::move(connection)},
      manager_{sdbus::createProxy(*connection_, manager_name, "/org/freedesktop/systemd1")},
      machined_{sdbus::createProxy(*connection_, "org.freedesktop.machine1", "/org/freedesktop/machine1")},
      bus_{sdbus::createProxy(*connection_, "org.freedesktop.DBus", "/org/freedesktop/DBus")},
      listeners_{std::make_shared<Listeners>()},
      discards_{std::make_shared<Discards>()} {
    // The manager tells the client whose call made the job, without a subscription.
    manager_->uponSignal("JobRemoved")
        .onInterface(manager_interface)
        .call([this](std::uint32_t, const sdbus::ObjectPath& job, const std::string& unit, const std::string& result) {
            job_removed(job, unit, result);
        });
    manager_->finishRegistration();
    source_ = std::make_unique<BusSource>(*connection_);
}

ManagerBus::~ManagerBus() = default;

Task<bool> ManagerBus::answers(Deadline deadline) {
    const bool owned = co_await call<bool>(loop_, *bus_, {"org.freedesktop.DBus", "NameHasOwner"}, deadline,
                                           std::string{manager_name});
    if (!owned) co_return false;
    co_await call<sdbus::Variant>(loop_, *manager_, {properties_interface, "Get"}, deadline,
                                  std::string{manager_interface}, std::string{"Version"});
    co_return true;
}

Task<> ManagerBus::start_transient(std::string unit, UnitProperties properties, Deadline deadline) {
    co_await call<sdbus::ObjectPath>(loop_, *manager_, {manager_interface, "StartTransientUnit"}, deadline,
                                     std::move(unit), std::string{"fail"}, std::move(properties), AuxiliaryUnits{});
}

Registration ManagerBus::on_job(std::string unit, JobEnded ended) {
    listeners_->insert_or_assign(unit, std::move(ended));
    return std::make_unique<Listener>(listeners_, std::move(unit));
}

Task<MainProcess> ManagerBus::main_process(std::string unit, Deadline deadline) {
    const auto proxy = sdbus::createProxy(*connection_, manager_name, unit_path(unit));
    const BusMethod get{properties_interface, "Get"};
    const std::string service{service_interface};
    // The code is asked first: once it is set the other two have their last value.
    const auto code = co_await call<sdbus::Variant>(loop_, *proxy, get, deadline, service, std::string{"ExecMainCode"});
    const auto status =
        co_await call<sdbus::Variant>(loop_, *proxy, get, deadline, service, std::string{"ExecMainStatus"});
    const auto pid = co_await call<sdbus::Variant>(loop_, *proxy, get, deadline, service, std::string{"ExecMainPID"});
    co_return MainProcess{pid.get<std::uint32_t>(), code.get<std::int32_t>(), status.get<std::int32_t>()};
}

Task<> ManagerBus::set_properties(std::string unit, UnitProperties properties, Deadline deadline) {
    co_await call<void>(loop_, *manager_, {manager_interface, "SetUnitProperties"}, deadline, std::move(unit), true,
                        std::move(properties));
}

Task<DeviceList> ManagerBus::devices(std::string unit, Deadline deadline) {
    const auto proxy = sdbus::createProxy(*connection_, manager_name, unit_path(unit));
    const auto value = co_await call<sdbus::Variant>(loop_, *proxy, {properties_interface, "Get"}, deadline,
                                                     std::string{service_interface}, std::string{"DeviceAllow"});
    co_return value.get<DeviceList>();
}

void ManagerBus::kill(const std::string& unit) {
    send(*manager_, {manager_interface, "KillUnit"}, unit, std::string{"all"}, std::int32_t{SIGKILL});
}

void ManagerBus::job_removed(const std::string& job, const std::string& unit, const std::string& result) {
    if (discards_->erase(job)) send(*manager_, {manager_interface, "ResetFailedUnit"}, unit);
    const auto found = listeners_->find(unit);
    if (found != listeners_->end()) JobEnded{found->second}(result);
}

void ManagerBus::discard(const std::string& unit) {
    // What has failed already is cleared by the second call at once; what fails while it is being stopped, after that.
    const auto stopping = [discards = discards_, unit](const sdbus::Error* error, const sdbus::ObjectPath& job) {
        if (!error) discards->emplace(job, unit);
    };
    try {
        send_call(*manager_, {manager_interface, "StopUnit"}, stopping, unit, std::string{"replace"});
    } catch (const BusError&) {
        return;
    }
    send(*manager_, {manager_interface, "ResetFailedUnit"}, unit);
}

void ManagerBus::register_machine(const std::string& name, const std::vector<std::uint8_t>& id, std::uint32_t leader) {
    send(*machined_, {"org.freedesktop.machine1.Manager", "RegisterMachine"}, name, id, std::string{"virtbus"},
         std::string{"vm"}, leader, std::string{});
}

}  // namespace virtbus::systemd
