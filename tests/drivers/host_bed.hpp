// SPDX-License-Identifier: LGPL-2.1-or-later
// The real ports over temporary folders, for tests of drivers against the real world.
#pragma once

#include <functional>
#include <memory>
#include <stdexcept>

#include "service/host/files.hpp"
#include "service/host/log.hpp"
#include "service/host/loop.hpp"
#include "service/host/spawner.hpp"
#include "service/host/workers.hpp"
#include "tests/support/run.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::tests {

/// Stands where no test starts a unit.
struct NoUnits final : Units {
    Task<Unit> start(UnitRequest, Deadline, std::stop_token) override {
        throw Error{Code::internal, "this test starts no units"};
        co_return Unit{};
    }
    std::optional<Unit> adopt(std::uint32_t, std::uint64_t, const std::string&) override { return std::nullopt; }
    void kill(const Unit&, bool) override {}
    Task<ExitStatus> exit_status(std::string, std::uint32_t, Deadline) override { co_return ExitStatus{}; }
    Task<> allow(std::string, std::uint32_t, UnitGrant, Deadline) override { co_return; }
    Task<> deny(std::string, UnitGrant, Deadline) override { co_return; }
};

struct HostBed {
    TemporaryFolder folder;
    host::MainLoop loop;
    host::SystemClock clock;
    host::ThreadPool workers{loop, 2};
    host::LinuxFiles files{workers, workers};
    host::ChildSpawner spawner{loop};
    host::StderrLog log{Priority::warning};
    std::unique_ptr<Units> units;
    Ports ports;

    using MakeUnits = std::function<std::unique_ptr<Units>(Loop&)>;
    explicit HostBed(const MakeUnits& make = {})
        : units{make ? make(loop) : std::make_unique<NoUnits>()},
          ports{loop,
                clock,
                workers,
                files,
                spawner,
                log,
                *units,
                Folders{folder.path() + "/config", folder.path() + "/state", folder.path() + "/run",
                        folder.path() + "/cache", folder.path() + "/logs"},
                "test-boot",
                false} {
        for (const auto& each : {ports.folders.config, ports.folders.state, ports.folders.runtime, ports.folders.cache,
                                 ports.folders.logs})
            files.make_folder(each, 0700);
    }

    /// Runs a task to its end and gives its result or exception.
    template <class T>
    T run(Task<T> task, Duration limit = patience) {
        return tests::run(loop, std::move(task), limit);
    }
    void run_until(const std::function<bool()>& condition, Duration limit = patience) {
        if (!loop.run_until(condition, limit)) throw std::runtime_error{"the condition never came true"};
    }
};

}  // namespace virtbus::tests
