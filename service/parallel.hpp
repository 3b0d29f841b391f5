// SPDX-License-Identifier: LGPL-2.1-or-later
// Waiting for many things at once, and for one thing no longer than a deadline.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "virtbus/reply.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

/// Runs the work, at most `width` pieces at a time; returns when all have ended. A piece ends its own errors.
Task<> run_all(Loop& loop, Scope& scope, std::vector<std::function<Task<>()>> work, std::size_t width);

namespace detail {
template <class T>
Task<> deliver(Task<T> task, typename Reply<T>::Promise promise, std::shared_ptr<void> keep) {
    try {
        if constexpr (std::is_void_v<T>) {
            co_await task;
            promise.set();
        } else {
            promise.set(co_await task);
        }
    } catch (...) {
        promise.fail(std::current_exception());
    }
    keep.reset();
}
}  // namespace detail

/// Awaits the task until the deadline or the stop; then goes on without it, requests its stop and lets it end by
/// itself. `keep` is held until it has.
template <class T>
Task<T> limited(Loop& loop, Scope& scope, Task<T> task, std::string what, Deadline deadline, std::stop_source cancel,
                std::stop_token stop, std::shared_ptr<void> keep) {
    Reply<T> reply{loop};
    const auto promise = reply.promise();
    scope.spawn(detail::deliver<T>(std::move(task), promise, std::move(keep)));
    try {
        if constexpr (std::is_void_v<T>)
            co_await reply.wait(std::move(what), deadline, std::move(stop));
        else
            co_return co_await reply.wait(std::move(what), deadline, std::move(stop));
    } catch (...) {
        cancel.request_stop();
        throw;
    }
}

}  // namespace virtbus
