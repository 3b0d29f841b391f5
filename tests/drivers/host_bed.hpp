// SPDX-License-Identifier: LGPL-2.1-or-later
// The real ports over temporary folders, for tests of drivers against the real world.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <stdexcept>
#include <string>

#include "service/host/files.hpp"
#include "service/host/log.hpp"
#include "service/host/loop.hpp"
#include "service/host/spawner.hpp"
#include "service/host/workers.hpp"
#include "virtbus/ports.hpp"

namespace virtbus::test {

struct TemporaryFolder {
    std::string path;
    TemporaryFolder() {
        char pattern[] = "/tmp/virtbus-test-XXXXXX";
        if (!::mkdtemp(pattern)) throw std::runtime_error{"mkdtemp"};
        path = pattern;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
};

/// Stands where no test starts a unit.
struct NoUnits final : Units {
    Task<Unit> start(UnitRequest, Deadline, std::stop_token) override {
        throw Error{Code::internal, "this test starts no units"};
        co_return Unit{};
    }
    std::optional<Unit> adopt(std::uint32_t, std::uint64_t, const std::string&) override { return std::nullopt; }
    void kill(const Unit&, bool) override {}
    Task<ExitStatus> exit_status(std::string, std::uint32_t, Deadline) override { co_return ExitStatus{}; }
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
                Folders{folder.path + "/config", folder.path + "/state", folder.path + "/run", folder.path + "/cache",
                        folder.path + "/logs"},
                "test-boot",
                false} {
        for (const auto& each : {ports.folders.config, ports.folders.state, ports.folders.runtime, ports.folders.cache,
                                 ports.folders.logs})
            files.make_folder(each, 0700);
    }

    /// Runs a task to its end and gives its result or exception.
    template <class T>
    T run(Task<T> task, Duration limit = Duration{60000}) {
        Scope scope;
        std::exception_ptr error;
        bool done = false;
        if constexpr (std::is_void_v<T>) {
            scope.spawn(settle(std::move(task), error, done));
            await(done, limit);
            if (error) std::rethrow_exception(error);
        } else {
            std::optional<T> value;
            scope.spawn(settle(std::move(task), value, error, done));
            await(done, limit);
            if (error) std::rethrow_exception(error);
            return std::move(*value);
        }
    }
    void run_until(const std::function<bool()>& condition, Duration limit = Duration{60000}) {
        if (!loop.run_until(condition, limit)) throw std::runtime_error{"the condition never came true"};
    }

private:
    void await(const bool& done, Duration limit) {
        run_until([&done] { return done; }, limit);
    }
    static Task<> settle(Task<> task, std::exception_ptr& error, bool& done) {
        try {
            co_await task;
        } catch (...) {
            error = std::current_exception();
        }
        done = true;
    }
    template <class T>
    static Task<> settle(Task<T> task, std::optional<T>& value, std::exception_ptr& error, bool& done) {
        try {
            value.emplace(co_await task);
        } catch (...) {
            error = std::current_exception();
        }
        done = true;
    }
};

}  // namespace virtbus::test
