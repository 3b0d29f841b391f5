// SPDX-License-Identifier: LGPL-2.1-or-later
// Launch: the daemon's side of one start through virtbus-launch. It holds the sockets and awaits the exec; making the
// launcher run (as a child or as a unit) is left to the two implementations of Units.
#pragma once

#include <string>

#include "launch/protocol.hpp"
#include "virtbus/fd.hpp"
#include "virtbus/loop.hpp"
#include "virtbus/ports.hpp"
#include "virtbus/reply.hpp"
#include "virtbus/task.hpp"

namespace virtbus::systemd {

class Launch {
public:
    /// Writes the order for the request. `account` is set where nobody else changes the user.
    Launch(Loop& loop, const UnitRequest& request, std::optional<Account> account);

    /// The launcher's standard input. The daemon lets go of it once the launcher (or its manager) has it.
    int standard_input() const noexcept { return theirs_.get(); }
    void release_standard_input() noexcept { theirs_ = Fd{}; }

    /// Ends the wait from outside: the launcher will never run.
    void fail(const std::string& why);
    /// Returns when the exec has succeeded. HypervisorFailed with the launcher's own words when it has not. On any
    /// failure `started` tells whether there is a process to end.
    Task<> wait(Deadline deadline, std::stop_token stop);
    Started& started() noexcept { return started_; }

private:
    bool read_one();

    Loop& loop_;
    std::string program_;
    Fd ours_, theirs_;  ///< the socket of the order
    Fd report_;
    Started started_;
    Reply<> reply_;
};

}  // namespace virtbus::systemd
