// SPDX-License-Identifier: LGPL-2.1-or-later
// The Spawner port: short-lived child processes with bounded output, ended with the wait for them.
#pragma once

#include "virtbus/ports.hpp"

namespace virtbus::host {

class ChildSpawner final : public Spawner {
public:
    explicit ChildSpawner(Loop& loop) : loop_{loop} {}
    Task<CommandResult> run(Command command, Deadline deadline, std::stop_token stop) override;

private:
    Loop& loop_;
};

}  // namespace virtbus::host
