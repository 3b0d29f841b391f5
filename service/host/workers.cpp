// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host/workers.hpp"

#include <fmt/format.h>

namespace virtbus::host {

ThreadPool::ThreadPool(Loop& loop, std::size_t threads, std::size_t queue)
    : Workers{loop}, most_threads_{threads}, most_queued_{queue} {}

ThreadPool::~ThreadPool() {
    {
        const std::lock_guard lock{mutex_};
        closing_ = true;
        queue_.clear();
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
}

void ThreadPool::submit(std::function<void()> work) {
    const std::lock_guard lock{mutex_};
    if (queue_.size() >= most_queued_)
        throw Error{
            Code::limits_exceeded,
            fmt::format("{} pieces of file work wait already; the disk may be stuck. Try again later", most_queued_)};
    queue_.push_back(std::move(work));
    if (idle_ >= queue_.size())
        wake_.notify_one();
    else if (threads_.size() < most_threads_)
        threads_.emplace_back([this] { this->work(); });
}

bool ThreadPool::settle(Duration wait) {
    std::unique_lock lock{mutex_};
    return settled_.wait_for(lock, wait, [this] { return queue_.empty() && idle_ == threads_.size(); });
}

void ThreadPool::work() {
    std::unique_lock lock{mutex_};
    for (;;) {
        if (!queue_.empty()) {
            auto next = std::move(queue_.front());
            queue_.pop_front();
            lock.unlock();
            next();
            next = nullptr;
            lock.lock();
            continue;
        }
        if (closing_) return;
        ++idle_;
        settled_.notify_all();
        wake_.wait(lock, [this] { return closing_ || !queue_.empty(); });
        --idle_;
    }
}

}  // namespace virtbus::host
