// SPDX-License-Identifier: LGPL-2.1-or-later
// Units under a system manager: each guest is a transient service with a sandbox of its own, started through
// virtbus-launch. The manager keeps how it ended for a daemon that was away.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launch/protocol.hpp"
#include "manager_bus.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::systemd {

class Launch;

/// "virtbus-qemu-3-web\x20one.service", its helper's "virtbus-qemu-3-web\x20one-swtpm.service"; cut to what a unit's
/// name may hold.
std::string unit_name(const UnitRequest& request);
/// What machined calls it: letters, digits and single hyphens, at most 64.
std::string machine_name(const UnitRequest& request);
/// "/machine/production" as in <resource><partition> becomes "machine-production.slice"; a slice stays one.
std::string slice_name(const std::string& partition);

class TransientUnits final : public Units {
public:
    struct Options {
        std::string launcher;
        std::optional<Account> account;  ///< whose rights guests run with (system manager only)
        bool system = true;              ///< the system manager: full sandbox, machine.slice, machined
    };
    TransientUnits(Loop& loop, std::unique_ptr<ManagerBus> manager, Options options);
    ~TransientUnits() override;

    Task<Unit> start(UnitRequest request, Deadline deadline, std::stop_token stop) override;
    std::optional<Unit> adopt(std::uint32_t pid, std::uint64_t start_time, const std::string& unit) override;
    void kill(const Unit& unit, bool graceful) override;
    Task<ExitStatus> exit_status(std::string unit, std::uint32_t pid, Deadline deadline) override;
    Task<> allow(std::string unit, std::uint32_t pid, UnitGrant grant, Deadline deadline) override;
    Task<> deny(std::string unit, UnitGrant grant, Deadline deadline) override;

private:
    Task<> create(std::string unit, UnitRequest request, int standard_input, Deadline deadline);
    Task<> discard_left_over(std::string unit, Deadline deadline);
    Task<> run(Launch& launch, std::string unit, UnitRequest request, Deadline deadline, std::stop_token stop);
    Task<std::string> why_failed(std::string unit, std::string result);
    Task<> set_devices(std::string unit, std::vector<DeviceList> lists, Deadline deadline);
    void register_machine(const UnitRequest& request, std::uint32_t leader);

    Loop& loop_;
    std::unique_ptr<ManagerBus> manager_;
    Options options_;
};

}  // namespace virtbus::systemd
