// SPDX-License-Identifier: LGPL-2.1-or-later
// ManagerBus: the conversation with the service manager (org.freedesktop.systemd1) and with machined. What a guest's
// unit looks like is left to transient_units.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "virtbus/loop.hpp"
#include "virtbus/ports.hpp"
#include "virtbus/task.hpp"

namespace sdbus {
class IConnection;
class IProxy;
template <typename...>
class Struct;
class Variant;
}  // namespace sdbus

namespace virtbus::systemd {

class BusSource;

using UnitProperties = std::vector<sdbus::Struct<std::string, sdbus::Variant>>;
/// Device nodes and how they may be opened: "rw".
using DeviceList = std::vector<sdbus::Struct<std::string, std::string>>;

/// What the manager remembers of a unit's main process.
struct MainProcess {
    std::uint32_t pid = 0;
    int code = 0;    ///< CLD_EXITED, CLD_KILLED, CLD_DUMPED; 0 while it runs
    int status = 0;  ///< exit code or signal
};

class ManagerBus {
public:
    using JobEnded = std::function<void(const std::string& result)>;

    ManagerBus(Loop& loop, std::unique_ptr<sdbus::IConnection> connection);
    ~ManagerBus();

    /// Whether a manager is on this bus at all.
    Task<bool> answers(Deadline deadline);

    Task<> start_transient(std::string unit, UnitProperties properties, Deadline deadline);
    /// Tells when the unit's job is over ("done", "failed", ...), until the registration goes.
    [[nodiscard]] Registration on_job(std::string unit, JobEnded ended);
    /// Of a unit that runs, until it stops.
    Task<> set_properties(std::string unit, UnitProperties properties, Deadline deadline);
    Task<DeviceList> devices(std::string unit, Deadline deadline);
    Task<MainProcess> main_process(std::string unit, Deadline deadline);
    /// SIGKILL to everything in the unit; nobody waits for the answer.
    void kill(const std::string& unit);
    /// Makes the manager forget the unit once it has stopped; nobody waits for the answer.
    void discard(const std::string& unit);
    /// machined, in the background; failures are left to machined's log.
    void register_machine(const std::string& name, const std::vector<std::uint8_t>& id, std::uint32_t leader);

private:
    void job_removed(const std::string& job, const std::string& unit, const std::string& result);

    struct Listener;
    using Listeners = std::map<std::string, JobEnded>;
    using Discards = std::map<std::string, std::string>;  ///< units by the path of the job that stops them

    Loop& loop_;
    std::unique_ptr<sdbus::IConnection> connection_;
    std::unique_ptr<sdbus::IProxy> manager_, machined_, bus_;
    std::shared_ptr<Listeners> listeners_;
    std::shared_ptr<Discards> discards_;
    std::unique_ptr<BusSource> source_;
};

}  // namespace virtbus::systemd
