// SPDX-License-Identifier: LGPL-2.1-or-later
// Lane: the order in which verbs act on one object, first come first served. Stop does not queue: it cancels what is in
// its way and comes next. What a verb does with the object is left to the verb.
#pragma once

#include <cstddef>
#include <deque>
#include <string>

#include "service/jobs.hpp"
#include "virtbus/reply.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

class Lane {
public:
    /// What a verb in the lane works on; a stop cancels those that need the guest and lets the others finish.
    enum class Subject { guest, definition };

    /// The lane is held as long as this lives.
    class [[nodiscard]] Hold {
    public:
        Hold() = default;
        Hold(Hold&& other) noexcept : lane_{std::exchange(other.lane_, nullptr)} {}
        Hold& operator=(Hold&& other) noexcept {
            std::swap(lane_, other.lane_);
            return *this;
        }
        ~Hold() { release(); }
        void release();

    private:
        friend Lane;
        explicit Hold(Lane& lane) : lane_{&lane} {}
        Lane* lane_ = nullptr;
    };

    /// `object` is named in messages: "domain 'web'".
    Lane(Loop& loop, std::string object) : loop_{loop}, object_{std::move(object)} {}
    Lane(const Lane&) = delete;
    Lane& operator=(const Lane&) = delete;

    /// Waits for its turn; Cancelled when the job is cancelled before that, Busy when too many wait.
    Task<Hold> enter(JobPtr job, Subject subject);
    /// Takes the lane next, before all that wait; not cancellable. Timeout naming the holder after the deadline.
    Task<Hold> enter_next(JobPtr job, std::optional<Deadline> deadline);
    /// Requests the cancellation of the holder and of all waiters whose subject is the guest. True when there were any.
    bool clear_way();

    JobPtr holder() const { return holder_.job; }
    bool idle() const { return !held_ && queue_.empty(); }
    void rename(std::string object) { object_ = std::move(object); }

private:
    struct Place {
        JobPtr job;  ///< null: the daemon's own work
        Subject subject = Subject::definition;
    };
    struct Waiter {
        Place place;
        Reply<>::Promise turn;
    };
    static constexpr std::size_t most_waiting = 64;

    Task<Hold> take(Place place, bool next, std::optional<Deadline> deadline, std::stop_token stop);
    void give_on();
    std::string holder_words() const;

    Loop& loop_;
    std::string object_;
    bool held_ = false;
    Place holder_;
    std::deque<Waiter> queue_;
};

}  // namespace virtbus
