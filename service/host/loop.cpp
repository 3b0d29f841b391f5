// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host/loop.hpp"

#include <glib-unix.h>
#include <glib.h>

#include <algorithm>
#include <memory>

namespace virtbus::host {

namespace {

class SourceRegistration final : public Registered {
public:
    explicit SourceRegistration(GSource* source) : source_{source} {}
    ~SourceRegistration() override {
        g_source_destroy(source_);
        g_source_unref(source_);
    }

private:
    GSource* source_;
};

template <class F>
Registration attach(GMainContext* context, GSource* source, GSourceFunc call, F work) {
    g_source_set_callback(source, call, new F{std::move(work)}, [](void* box) { delete static_cast<F*>(box); });
    g_source_attach(source, context);
    return std::make_unique<SourceRegistration>(source);
}

GIOCondition condition(unsigned wanted) {
    unsigned bits = G_IO_ERR | G_IO_HUP;
    if (wanted & readable) bits |= G_IO_IN;
    if (wanted & writable) bits |= G_IO_OUT;
    return static_cast<GIOCondition>(bits);
}

unsigned readiness(GIOCondition condition) {
    unsigned bits = 0;
    if (condition & G_IO_IN) bits |= readable;
    if (condition & G_IO_OUT) bits |= writable;
    if (condition & (G_IO_HUP | G_IO_ERR)) bits |= hung_up;
    return bits;
}

}  // namespace

struct MainLoop::PostSource {
    GSource base;
    MainLoop* owner;
};

MainLoop::MainLoop() : context_{g_main_context_ref(g_main_context_default())}, loop_{g_main_loop_new(context_, FALSE)} {
    static GSourceFuncs functions{prepare, check, dispatch, nullptr, nullptr, nullptr};
    posted_source_ = g_source_new(&functions, sizeof(PostSource));
    reinterpret_cast<PostSource*>(posted_source_)->owner = this;
    g_source_attach(posted_source_, context_);
}

MainLoop::~MainLoop() {
    g_source_destroy(posted_source_);
    g_source_unref(posted_source_);
    g_main_loop_unref(loop_);
    g_main_context_unref(context_);
}

void MainLoop::post(Work work) {
    {
        const std::lock_guard lock{mutex_};
        posted_.push_back(std::move(work));
    }
    g_main_context_wakeup(context_);
}

Registration MainLoop::after(Duration wait, Work work) {
    auto* source = g_timeout_source_new(static_cast<guint>(std::clamp<std::int64_t>(wait.count(), 0, G_MAXINT)));
    return attach(
        context_, source,
        [](void* box) -> gboolean {
            (*static_cast<Work*>(box))();
            return G_SOURCE_REMOVE;
        },
        std::move(work));
}

Registration MainLoop::watch(int fd, unsigned wanted, std::function<void(unsigned)> ready) {
    auto* source = g_unix_fd_source_new(fd, condition(wanted));
    using Call = std::function<void(unsigned)>;
    const GUnixFDSourceFunc call = [](int, GIOCondition seen, void* box) -> gboolean {
        (*static_cast<Call*>(box))(readiness(seen));
        return G_SOURCE_CONTINUE;
    };
    return attach(context_, source, G_SOURCE_FUNC(call), std::move(ready));
}

Registration MainLoop::on_signal(int number, Work work) {
    return attach(
        context_, g_unix_signal_source_new(number),
        [](void* box) -> gboolean {
            (*static_cast<Work*>(box))();
            return G_SOURCE_CONTINUE;
        },
        std::move(work));
}

void MainLoop::run() {
    g_main_loop_run(loop_);
}

void MainLoop::quit() {
    g_main_loop_quit(loop_);
}

bool MainLoop::run_until(const std::function<bool()>& condition, Duration wait) {
    bool late = false;
    const auto timer = after(wait, [&late] { late = true; });
    while (!condition()) {
        if (late) return false;
        g_main_context_iteration(context_, TRUE);
    }
    return true;
}

bool MainLoop::pending() {
    const std::lock_guard lock{mutex_};
    return !posted_.empty();
}

void MainLoop::drain() {
    std::vector<Work> batch;
    {
        const std::lock_guard lock{mutex_};
        batch.swap(posted_);
    }
    for (auto& work : batch) {
        work();
        work = nullptr;
    }
}

int MainLoop::prepare(GSource* source, int* timeout) {
    *timeout = -1;
    return reinterpret_cast<PostSource*>(source)->owner->pending();
}

int MainLoop::check(GSource* source) {
    return reinterpret_cast<PostSource*>(source)->owner->pending();
}

int MainLoop::dispatch(GSource* source, int (*)(void*), void*) {
    reinterpret_cast<PostSource*>(source)->owner->drain();
    return G_SOURCE_CONTINUE;
}

std::uint64_t SystemClock::now() const {
    return static_cast<std::uint64_t>(g_get_real_time());
}

}  // namespace virtbus::host
