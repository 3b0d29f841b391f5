// SPDX-License-Identifier: LGPL-2.1-or-later
// The Workers port: a bounded pool of threads with a bounded queue. Threads start when there is work for them.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "virtbus/ports.hpp"

namespace virtbus::host {

class ThreadPool final : public Workers {
public:
    ThreadPool(Loop& loop, std::size_t threads, std::size_t queue = 4096);
    /// Waits for the work that runs; what is queued is dropped.
    ~ThreadPool() override;

    /// Waits until nothing runs or the time is over; true when nothing runs.
    bool settle(Duration wait);

protected:
    void submit(std::function<void()> work) override;

private:
    void work();

    const std::size_t most_threads_, most_queued_;
    std::mutex mutex_;
    std::condition_variable wake_, settled_;
    std::deque<std::function<void()>> queue_;
    std::vector<std::thread> threads_;
    std::size_t idle_ = 0;
    bool closing_ = false;
};

}  // namespace virtbus::host
