// SPDX-License-Identifier: LGPL-2.1-or-later
#include "bus_source.hpp"

#include <glib.h>
#include <poll.h>
#include <sdbus-c++/sdbus-c++.h>

namespace virtbus::systemd {

namespace {

/// What the connection wants changes with every message, so it is asked afresh before every poll.
struct Source {
    GSource base;
    sdbus::IConnection* connection;
    GPollFD poll;
    bool broken;
};

gboolean prepare(GSource* base, int* timeout) {
    auto& source = *reinterpret_cast<Source*>(base);
    if (source.broken) return FALSE;
    const auto wanted = source.connection->getEventLoopPollData();
    source.poll.fd = wanted.fd;
    source.poll.events = static_cast<gushort>(wanted.events);
    *timeout = wanted.getPollTimeout();
    return *timeout == 0;
}

gboolean check(GSource* base) {
    auto& source = *reinterpret_cast<Source*>(base);
    return !source.broken && (source.poll.revents || source.connection->getEventLoopPollData().getPollTimeout() == 0);
}

gboolean dispatch(GSource* base, GSourceFunc, void*) {
    auto& source = *reinterpret_cast<Source*>(base);
    try {
        while (source.connection->processPendingRequest()) {
        }
    } catch (const std::exception& error) {
        // The bus is gone. Calls still out fail by their deadlines; a poll on a dead socket would spin.
        g_warning("The connection to the bus is lost: %s", error.what());
        source.broken = true;
        source.poll.events = 0;
        g_source_remove_poll(base, &source.poll);
    }
    return G_SOURCE_CONTINUE;
}

GSourceFuncs functions{prepare, check, dispatch, nullptr, nullptr, nullptr};

}  // namespace

BusSource::BusSource(sdbus::IConnection& connection) : source_{g_source_new(&functions, sizeof(Source))} {
    auto& source = *reinterpret_cast<Source*>(source_);
    source.connection = &connection;
    const auto wanted = connection.getEventLoopPollData();
    source.poll = {wanted.fd, static_cast<gushort>(wanted.events), 0};
    source.broken = false;
    g_source_add_poll(source_, &source.poll);
    g_source_attach(source_, nullptr);
}

BusSource::~BusSource() {
    g_source_destroy(source_);
    g_source_unref(source_);
}

}  // namespace virtbus::systemd
