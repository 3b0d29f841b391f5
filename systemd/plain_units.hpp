// SPDX-License-Identifier: LGPL-2.1-or-later
// Units without a system manager: the launcher as a process in a session of its own, which outlives the daemon. How it
// ended is known only to the daemon that started it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "launch/protocol.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::systemd {

class PlainUnits final : public Units {
public:
    /// `account`: whose rights guests run with; nullopt keeps the daemon's own.
    PlainUnits(Loop& loop, std::string launcher, std::optional<Account> account);

    Task<Unit> start(UnitRequest request, Deadline deadline, std::stop_token stop) override;
    std::optional<Unit> adopt(std::uint32_t pid, std::uint64_t start_time, const std::string& unit) override;
    void kill(const Unit& unit, bool graceful) override;
    Task<ExitStatus> exit_status(std::string unit, std::uint32_t pid, Deadline deadline) override;
    Task<> allow(std::string unit, std::uint32_t pid, UnitGrant grant, Deadline deadline) override;
    Task<> deny(std::string unit, UnitGrant grant, Deadline deadline) override;

private:
    struct Dying {
        Fd pidfd;
        Registration watch;
    };
    pid_t spawn(int standard_input) const;
    void end(pid_t child);

    Loop& loop_;
    std::string launcher_;
    std::optional<Account> account_;
    std::shared_ptr<std::map<pid_t, Dying>> dying_;  ///< failed starts, waited for so that they leave no zombie
};

}  // namespace virtbus::systemd
