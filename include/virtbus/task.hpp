// SPDX-License-Identifier: LGPL-2.1-or-later
// Task<T>: a coroutine that is lazy, has one owner, and carries its result or exception to whoever awaits it.
// Scope owns the root tasks. Turning callbacks into awaitables is reply.hpp's work.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <unordered_set>
#include <utility>

namespace virtbus {

namespace detail {
template <class T>
struct TaskResult {
    std::optional<T> value;
    template <class U>
    void return_value(U&& result) {
        value.emplace(std::forward<U>(result));
    }
    T take() { return std::move(*value); }
};
template <>
struct TaskResult<void> {
    void return_void() noexcept {}
    void take() noexcept {}
};
}  // namespace detail

template <class T = void>
class [[nodiscard]] Task {
public:
    struct promise_type;
    using Handle = std::coroutine_handle<promise_type>;

    struct ResumeCaller {
        bool await_ready() noexcept { return false; }
        std::coroutine_handle<> await_suspend(Handle done) noexcept { return done.promise().caller; }
        void await_resume() noexcept {}
    };

    struct promise_type : detail::TaskResult<T> {
        std::coroutine_handle<> caller = std::noop_coroutine();
        std::exception_ptr error;
        Task get_return_object() { return Task{Handle::from_promise(*this)}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        ResumeCaller final_suspend() noexcept { return {}; }
        void unhandled_exception() { error = std::current_exception(); }
    };

    explicit Task(Handle handle) : handle_{handle} {}
    Task(Task&& other) noexcept : handle_{std::exchange(other.handle_, nullptr)} {}
    Task& operator=(Task&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Task() {
        if (handle_) handle_.destroy();
    }

    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) noexcept {
        handle_.promise().caller = caller;
        return handle_;
    }
    T await_resume() {
        if (handle_.promise().error) std::rethrow_exception(handle_.promise().error);
        return handle_.promise().take();
    }

private:
    Handle handle_;
};

/// Owns tasks that nobody awaits. A root task must end its own errors: one that leaves it ends the process.
/// The destructor destroys the frames that are left, so it is for process exit and for dropping pending questions.
class Scope {
public:
    Scope() = default;
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() {
        while (!live_.empty()) std::coroutine_handle<>::from_address(*live_.begin()).destroy();
    }

    /// Starts the task now; it runs to its first wait before spawn returns.
    void spawn(Task<> task) { run(std::move(task), *this); }
    bool empty() const noexcept { return live_.empty(); }
    std::size_t size() const noexcept { return live_.size(); }

private:
    struct Root {
        struct promise_type {
            promise_type(Task<>&, Scope& owner) : scope{owner} { scope.live_.insert(address()); }
            ~promise_type() { scope.live_.erase(address()); }
            void* address() { return std::coroutine_handle<promise_type>::from_promise(*this).address(); }
            Root get_return_object() { return {}; }
            std::suspend_never initial_suspend() noexcept { return {}; }
            std::suspend_never final_suspend() noexcept { return {}; }
            void return_void() {}
            void unhandled_exception() { std::terminate(); }
            Scope& scope;
        };
    };
    static Root run(Task<> task, Scope&) { co_await task; }

    std::unordered_set<void*> live_;
};

}  // namespace virtbus
