// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: runs a task to its end on the real loop and gives back its result or exception.
#pragma once

#include <filesystem>
#include <optional>
#include <stdexcept>

#include "service/host/loop.hpp"
#include "virtbus/task.hpp"

namespace virtbus::testing {

inline constexpr Duration patience = std::chrono::seconds{60};

namespace detail {
template <class T>
Task<> finish(Task<T> task, std::optional<T>& value, std::exception_ptr& error, bool& done) {
    try {
        value.emplace(co_await task);
    } catch (...) {
        error = std::current_exception();
    }
    done = true;
}
inline Task<> finish(Task<> task, std::exception_ptr& error, bool& done) {
    try {
        co_await task;
    } catch (...) {
        error = std::current_exception();
    }
    done = true;
}
inline void settle(host::MainLoop& loop, bool& done, std::exception_ptr& error) {
    if (!loop.run_until([&done] { return done; }, patience)) throw std::runtime_error{"the task did not end"};
    if (error) std::rethrow_exception(error);
}
}  // namespace detail

template <class T>
T run(host::MainLoop& loop, Task<T> task) {
    std::optional<T> value;
    std::exception_ptr error;
    bool done = false;
    Scope scope;
    scope.spawn(detail::finish(std::move(task), value, error, done));
    detail::settle(loop, done, error);
    return std::move(*value);
}
inline void run(host::MainLoop& loop, Task<> task) {
    std::exception_ptr error;
    bool done = false;
    Scope scope;
    scope.spawn(detail::finish(std::move(task), error, done));
    detail::settle(loop, done, error);
}

/// A folder of its own for a test, removed at the end.
class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string name = std::filesystem::temp_directory_path() / "virtbus-test-XXXXXX";
        if (!::mkdtemp(name.data())) throw std::runtime_error{"cannot make a temporary folder"};
        path_ = name;
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

}  // namespace virtbus::testing
