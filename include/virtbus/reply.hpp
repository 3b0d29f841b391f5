// SPDX-License-Identifier: LGPL-2.1-or-later
// Reply<T>: makes a callback awaitable, with a stop token and a deadline. The first of answer, failure, stop and
// deadline wins; the waiter is resumed from the loop, never from inside the callback. Main thread only.
#pragma once

#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "virtbus/error.hpp"
#include "virtbus/loop.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

/// Thrown by a wait whose stop token was triggered. Undo work that follows passes no token.
class Cancelled : public Error {
public:
    explicit Cancelled(const std::string& what) : Error{Code::cancelled, what + " was cancelled"} {}
};

template <class T = void>
class Reply {
    using Value = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

    struct Slot {
        Loop& loop;
        std::coroutine_handle<> waiter;
        std::optional<Value> value;
        std::exception_ptr error;
        bool settled = false;

        void settle(std::shared_ptr<Slot> self) {
            settled = true;
            if (waiter)
                loop.post([self = std::move(self)] {
                    if (auto resumed = std::exchange(self->waiter, nullptr)) resumed.resume();
                });
        }
    };

public:
    /// What a callback holds. Copies share one answer; it may come late, twice or never.
    class Promise {
    public:
        template <class... Args>
        void set(Args&&... args) const {
            if (slot_->settled) return;
            slot_->value.emplace(std::forward<Args>(args)...);
            slot_->settle(slot_);
        }
        void fail(std::exception_ptr error) const {
            if (slot_->settled) return;
            slot_->error = std::move(error);
            slot_->settle(slot_);
        }
        template <class E>
            requires std::is_base_of_v<std::exception, E>
        void fail(const E& error) const {
            fail(std::make_exception_ptr(error));
        }
        bool settled() const noexcept { return slot_->settled; }

    private:
        friend Reply;
        explicit Promise(std::shared_ptr<Slot> slot) : slot_{std::move(slot)} {}
        std::shared_ptr<Slot> slot_;
    };

    class Waiting {
    public:
        Waiting(std::shared_ptr<Slot> slot, std::string what, std::optional<Deadline> deadline, std::stop_token stop)
            : slot_{std::move(slot)}, what_{std::move(what)}, deadline_{deadline}, stop_{std::move(stop)} {}

        bool await_ready() const noexcept { return slot_->settled; }
        void await_suspend(std::coroutine_handle<> waiter) {
            slot_->waiter = waiter;
            if (deadline_) {
                const auto left = std::chrono::ceil<Duration>(*deadline_ - std::chrono::steady_clock::now());
                timer_ = slot_->loop.after(std::max(left, Duration{0}), [promise = Promise{slot_}, what = what_] {
                    promise.fail(Error{Code::timeout, what + " did not finish in time"});
                });
            }
            if (stop_.stop_possible()) on_stop_.emplace(stop_, Stop{Promise{slot_}, what_});
        }
        T await_resume() {
            on_stop_.reset();
            timer_.reset();
            if (slot_->error) std::rethrow_exception(slot_->error);
            if constexpr (!std::is_void_v<T>) return std::move(*slot_->value);
        }

    private:
        struct Stop {
            Promise promise;
            std::string what;
            void operator()() const { promise.fail(Cancelled{what}); }
        };
        std::shared_ptr<Slot> slot_;
        std::string what_;
        std::optional<Deadline> deadline_;
        std::stop_token stop_;
        Registration timer_;
        std::optional<std::stop_callback<Stop>> on_stop_;
    };

    explicit Reply(Loop& loop) : slot_{std::make_shared<Slot>(Slot{loop, nullptr, std::nullopt, nullptr})} {}
    Reply(const Reply&) = delete;
    Reply& operator=(const Reply&) = delete;
    /// The frame may be destroyed while it waits: a late answer then finds nobody.
    ~Reply() { slot_->waiter = nullptr; }

    Promise promise() const { return Promise{slot_}; }

    /// Waits for the answer. `what` names the wait in the Timeout and Cancelled messages ("the answer of QMP
    /// query-status").
    Waiting wait(std::string what, std::optional<Deadline> deadline, std::stop_token stop = {}) {
        return Waiting{slot_, std::move(what), deadline, std::move(stop)};
    }

private:
    std::shared_ptr<Slot> slot_;
};

/// Waits for a span of time.
inline Task<> sleep(Loop& loop, Duration wait, std::stop_token stop = {}) {
    Reply<> reply{loop};
    const auto timer = loop.after(wait, [promise = reply.promise()] { promise.set(); });
    co_await reply.wait("a pause", std::nullopt, std::move(stop));
}

}  // namespace virtbus
