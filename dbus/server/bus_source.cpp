// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/server/bus_source.hpp"

#include <glib.h>
#include <poll.h>
#include <systemd/sd-bus.h>

#include <algorithm>
#include <cstdint>

namespace virtbus::dbus {

namespace {
// After so many messages the others on the loop have their turn.
constexpr int most_at_once = 64;
}  // namespace

struct BusSource::Source {
    GSource base;
    GPollFD fd;
    sd_bus* bus;
    std::function<void(int)>* lost;
    std::function<bool()>* hold;

    bool held() const { return *hold && (*hold)(); }

    static gboolean prepare(GSource* base, gint* timeout) {
        auto* self = reinterpret_cast<Source*>(base);
        const bool held = self->held();
        const int events = sd_bus_get_events(self->bus);
        self->fd.events = static_cast<gushort>(events < 0 ? POLLIN : held ? events & ~POLLIN : events);
        self->fd.revents = 0;
        *timeout = -1;
        std::uint64_t due = 0;
        if (sd_bus_get_timeout(self->bus, &due) < 0) return TRUE;  // the connection has ended; dispatch says why
        if (due == UINT64_MAX || held) return FALSE;
        const std::int64_t left = static_cast<std::int64_t>(due) - g_get_monotonic_time();
        if (left <= 0) return TRUE;
        *timeout = static_cast<gint>(std::min<std::int64_t>((left + 999) / 1000, G_MAXINT));
        return FALSE;
    }

    static gboolean check(GSource* base) {
        auto* self = reinterpret_cast<Source*>(base);
        if (self->fd.revents) return TRUE;
        std::uint64_t due = 0;
        if (sd_bus_get_timeout(self->bus, &due) < 0) return TRUE;
        return !self->held() && due != UINT64_MAX && static_cast<std::int64_t>(due) <= g_get_monotonic_time();
    }

    static gboolean dispatch(GSource* base, GSourceFunc, gpointer) {
        auto* self = reinterpret_cast<Source*>(base);
        // Alive until the end of this function, whatever the callbacks close.
        sd_bus* bus = sd_bus_ref(self->bus);
        g_source_ref(base);
        int result = 1;
        for (int i = 0; i < most_at_once && result > 0 && !g_source_is_destroyed(base); i++) {
            result = sd_bus_process(bus, nullptr);
            if (!g_source_is_destroyed(base) && self->held()) break;
        }
        if (!g_source_is_destroyed(base) && (result < 0 || sd_bus_is_open(bus) <= 0)) {
            const auto lost = *self->lost;
            g_source_destroy(base);
            lost(result < 0 ? -result : ECONNRESET);
        }
        sd_bus_unref(bus);
        const gboolean goes_on = g_source_is_destroyed(base) ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
        g_source_unref(base);
        return goes_on;
    }

    static void finalize(GSource* base) {
        auto* self = reinterpret_cast<Source*>(base);
        delete self->lost;
        delete self->hold;
        sd_bus_unref(self->bus);
    }
};

BusSource::BusSource(sd_bus* bus, std::function<void(int)> lost, std::function<bool()> hold) {
    static GSourceFuncs functions{Source::prepare, Source::check, Source::dispatch, Source::finalize, nullptr, nullptr};
    GSource* base = g_source_new(&functions, sizeof(Source));
    source_ = reinterpret_cast<Source*>(base);
    source_->bus = sd_bus_ref(bus);
    source_->lost = new std::function<void(int)>{std::move(lost)};
    source_->hold = new std::function<bool()>{std::move(hold)};
    source_->fd = {sd_bus_get_fd(bus), POLLIN, 0};
    g_source_add_poll(base, &source_->fd);
    g_source_attach(base, nullptr);
}

BusSource::~BusSource() {
    g_source_destroy(&source_->base);
    g_source_unref(&source_->base);
}

}  // namespace virtbus::dbus
