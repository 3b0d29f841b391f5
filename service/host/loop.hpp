// SPDX-License-Identifier: LGPL-2.1-or-later
// The Loop and Clock ports on a GLib main context.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "virtbus/loop.hpp"

typedef struct _GMainContext GMainContext;
typedef struct _GMainLoop GMainLoop;
typedef struct _GSource GSource;

namespace virtbus::host {

class MainLoop final : public Loop {
public:
    /// On the process's default main context, which libraries such as GDBus use too.
    MainLoop();
    ~MainLoop() override;
    MainLoop(const MainLoop&) = delete;
    MainLoop& operator=(const MainLoop&) = delete;

    void post(Work work) override;
    Registration after(Duration wait, Work work) override;
    Registration watch(int fd, unsigned wanted, std::function<void(unsigned)> ready) override;
    /// Calls work at each of these process signals, in the loop.
    [[nodiscard]] Registration on_signal(int number, Work work);

    void run();
    void quit();
    /// Runs the loop until the condition holds or the wait is over; true when it holds.
    bool run_until(const std::function<bool()>& condition, Duration wait);
    GMainContext* context() const { return context_; }

private:
    struct PostSource;
    static int prepare(GSource* source, int* timeout);
    static int check(GSource* source);
    static int dispatch(GSource* source, int (*)(void*), void*);
    bool pending();
    void drain();

    GMainContext* context_;
    GMainLoop* loop_;
    GSource* posted_source_;
    std::mutex mutex_;
    std::vector<Work> posted_;
};

class SystemClock final : public Clock {
public:
    std::uint64_t now() const override;
};

}  // namespace virtbus::host
