// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/lane.hpp"

#include <fmt/format.h>

namespace virtbus {

void Lane::Hold::release() {
    if (auto* lane = std::exchange(lane_, nullptr)) lane->give_on();
}

std::string Lane::holder_words() const {
    return holder_.job ? fmt::format("'{}' (job {})", holder_.job->view().operation, holder_.job->id())
                       : std::string{"the daemon's own work"};
}

Task<Lane::Hold> Lane::enter(JobPtr job, Subject subject) {
    if (held_ && queue_.size() >= most_waiting)
        throw Error{Code::busy, fmt::format("{} is held by {} and {} verbs wait already; at most {} may", object_,
                                            holder_words(), queue_.size(), most_waiting)};
    auto stop = job ? job->stop() : std::stop_token{};
    if (stop.stop_requested()) throw Cancelled{fmt::format("the wait for {}", object_)};
    co_return co_await take(Place{std::move(job), subject}, false, std::nullopt, std::move(stop));
}

Task<Lane::Hold> Lane::enter_next(JobPtr job, std::optional<Deadline> deadline) {
    co_return co_await take(Place{std::move(job), Subject::definition}, true, deadline, {});
}

Task<Lane::Hold> Lane::take(Place place, bool next, std::optional<Deadline> deadline, std::stop_token stop) {
    if (!held_) {
        held_ = true;
        holder_ = std::move(place);
        co_return Hold{*this};
    }
    Reply<> turn{loop_};
    Waiter waiter{std::move(place), turn.promise()};
    if (next)
        queue_.push_front(std::move(waiter));
    else
        queue_.push_back(std::move(waiter));
    try {
        co_await turn.wait(fmt::format("the wait for {} behind {}", object_, holder_words()), deadline,
                           std::move(stop));
    } catch (...) {
        std::erase_if(queue_, [](const Waiter& left) { return left.turn.settled(); });
        throw;
    }
    co_return Hold{*this};
}

void Lane::give_on() {
    while (!queue_.empty()) {
        auto next = std::move(queue_.front());
        queue_.pop_front();
        if (next.turn.settled()) continue;  // it gave up in this very turn of the loop
        holder_ = std::move(next.place);
        next.turn.set();
        return;
    }
    held_ = false;
    holder_ = {};
}

bool Lane::clear_way() {
    std::vector<JobPtr> in_the_way;
    if (held_ && holder_.job && holder_.subject == Subject::guest) in_the_way.push_back(holder_.job);
    for (const auto& waiter : queue_)
        if (waiter.place.job && waiter.place.subject == Subject::guest) in_the_way.push_back(waiter.place.job);
    bool any = false;
    for (const auto& job : in_the_way)
        if (!job->finished() && job->view().cancelable) {
            job->cancel();
            any = true;
        }
    return any;
}

}  // namespace virtbus
