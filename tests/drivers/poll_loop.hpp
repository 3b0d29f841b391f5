// SPDX-License-Identifier: LGPL-2.1-or-later
// A Loop on poll(2) for tests that need descriptors and timers but none of the real ports.
#pragma once

#include <poll.h>

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tests/support/run.hpp"
#include "virtbus/loop.hpp"
#include "virtbus/task.hpp"

namespace virtbus::tests {

class PollLoop final : public Loop {
public:
    void post(Work work) override {
        const std::lock_guard lock{mutex_};
        posted_.push_back(std::move(work));
    }
    Registration after(Duration wait, Work work) override {
        return add({-1, 0, in(wait), [work = std::move(work)](unsigned) { work(); }});
    }
    Registration watch(int fd, unsigned wanted, std::function<void(unsigned)> ready) override {
        return add({fd, wanted, {}, std::move(ready)});
    }

    /// Turns until the condition holds; false when the time is over.
    bool run_until(const std::function<bool()>& done, Duration limit = patience) {
        const auto deadline = in(limit);
        while (!done()) {
            if (std::chrono::steady_clock::now() > deadline) return false;
            turn();
        }
        return true;
    }
    /// Runs a task to its end and gives its result or exception.
    template <class T>
    T run(Task<T> task) {
        return tests::run(*this, std::move(task));
    }
    void turn() {
        std::vector<Work> work;
        {
            const std::lock_guard lock{mutex_};
            work.swap(posted_);
        }
        for (auto& each : work) each();
        poll_once(work.empty() ? 5 : 0);
    }

private:
    struct Entry {
        int fd;
        unsigned wanted;
        Deadline due;
        std::function<void(unsigned)> call;
        bool gone = false;
    };
    struct Held : Registered {
        std::shared_ptr<Entry> entry;
        explicit Held(std::shared_ptr<Entry> held) : entry{std::move(held)} {}
        ~Held() override { entry->gone = true; }
    };
    Registration add(Entry entry) {
        entries_.push_back(std::make_shared<Entry>(std::move(entry)));
        return std::make_unique<Held>(entries_.back());
    }
    void poll_once(int wait) {
        std::erase_if(entries_, [](const auto& entry) { return entry->gone; });
        const auto entries = entries_;
        std::vector<pollfd> polls;
        for (const auto& entry : entries)
            polls.push_back(
                {entry->fd,
                 static_cast<short>((entry->wanted & readable ? POLLIN : 0) | (entry->wanted & writable ? POLLOUT : 0)),
                 0});
        ::poll(polls.data(), polls.size(), wait);
        for (std::size_t i = 0; i < entries.size(); ++i) {
            const auto entry = entries[i];
            if (entry->gone) continue;
            if (entry->fd < 0) {
                if (std::chrono::steady_clock::now() < entry->due) continue;
                entry->gone = true;
                entry->call(0);
            } else if (const auto got = polls[i].revents) {
                entry->call((got & POLLIN ? readable : 0U) | (got & POLLOUT ? writable : 0U) |
                            (got & (POLLHUP | POLLERR) ? hung_up : 0U));
            }
        }
    }

    std::mutex mutex_;
    std::vector<Work> posted_;
    std::vector<std::shared_ptr<Entry>> entries_;
};

}  // namespace virtbus::tests
