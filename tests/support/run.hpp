// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: runs a task to its end on a loop and gives back its result or exception.
#pragma once

#include <stdlib.h>

#include <exception>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "virtbus/loop.hpp"
#include "virtbus/task.hpp"

namespace virtbus::tests {

inline constexpr Duration patience = std::chrono::seconds{60};

namespace detail {
template <class T>
struct Outcome {
    std::optional<std::conditional_t<std::is_void_v<T>, std::monostate, T>> value;
    std::exception_ptr error;
    bool done = false;
};
template <class T>
Task<> note(Task<T> task, Outcome<T>& outcome) {
    try {
        if constexpr (std::is_void_v<T>)
            co_await task;
        else
            outcome.value.emplace(co_await task);
    } catch (...) {
        outcome.error = std::current_exception();
    }
    outcome.done = true;
}
}  // namespace detail

/// `On` is a loop with run_until().
template <class On, class T>
T run(On& loop, Task<T> task, Duration limit = patience) {
    detail::Outcome<T> outcome;
    Scope scope;
    scope.spawn(detail::note(std::move(task), outcome));
    if (!loop.run_until([&outcome] { return outcome.done; }, limit)) throw std::runtime_error{"the task did not end"};
    if (outcome.error) std::rethrow_exception(outcome.error);
    if constexpr (!std::is_void_v<T>) return std::move(*outcome.value);
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

}  // namespace virtbus::tests
