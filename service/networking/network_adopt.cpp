// SPDX-License-Identifier: LGPL-2.1-or-later
// Taking up a network after a restart of the daemon.
#include <fmt/format.h>

#include "service/networking/virtual_network.hpp"
#include "service/xml/network_xml.hpp"

namespace virtbus {

Task<> VirtualNetwork::adopt(NetworkStatus status) {
    const auto hold = co_await lane_.enter(nullptr, Lane::Subject::definition);
    std::string reason;
    try {
        if (status.started)
            co_await take_up(status);
        else
            log(Priority::warning, "What an earlier daemon or boot left of it is undone");
        if (!live_) co_await undo_record(status);
    } catch (const std::exception& e) {
        reason = e.what();
    }
    if (!reason.empty()) {
        leftover_ = std::move(status);
        leftover_reason_ = fmt::format("it could be neither taken up nor taken down: {}. Start or stop it", reason);
        log(Priority::error, leftover_reason_);
    }
    const bool kept = live_ || definition_ || leftover_;
    if (kept)
        show();
    else
        vanish();
}

Task<> VirtualNetwork::take_up(NetworkStatus status) {
    const auto live = std::make_shared<LiveNetwork>(context_.ports.loop, words());
    live->config = without_connections(status.config);
    live->table = PortTable::of(status);
    live->started = true;
    starting_ = live;
    std::exception_ptr error;
    try {
        live->running = co_await require_driver().adopt(live->config, std::move(status.driver_state), *this,
                                                        in(context_.patience.verb));
    } catch (...) {
        error = std::current_exception();
    }
    starting_.reset();
    if (error) std::rethrow_exception(error);
    if (!live->running) {
        log(Priority::info, "Its bridge went while no daemon watched; it is inactive");
        co_return;
    }
    live->config = without_connections(live->running->config());
    live->driver_state = live->running->driver_state();
    live_ = live;
    save_if_live(live);
    co_await context_.guests.reconnect(shared_from_this());
}

}  // namespace virtbus
