// SPDX-License-Identifier: LGPL-2.1-or-later
// From a definition to a network that runs, and back.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "service/networking/virtual_network.hpp"
#include "service/xml/network_xml.hpp"
#include "virtbus/message_ids.hpp"

namespace virtbus {

JobPtr VirtualNetwork::begin(std::string operation, std::string action, Caller caller,
                             std::function<Task<>(VirtualNetwork&, JobPtr)> work) {
    JobSpec spec;
    spec.operation = std::move(operation);
    spec.networks = {view_.uuid};
    spec.action = std::move(action);
    spec.caller = std::move(caller);
    return context_.jobs.run(std::move(spec), [self = shared_from_this(), work = std::move(work)](JobPtr job) {
        return work(*self, std::move(job));
    });
}

// ---- start

JobPtr VirtualNetwork::start(Caller caller) {
    return begin("start", "network.start", std::move(caller),
                 [](VirtualNetwork& self, JobPtr job) { return self.do_start(std::move(job)); });
}

Task<> VirtualNetwork::do_start(JobPtr job) {
    const auto hold = co_await lane_.enter(job, Lane::Subject::guest);
    require_listed();
    require_startable();
    require_stored("start");
    co_await launch(job, definition_->config);
}

Task<> VirtualNetwork::launch(JobPtr job, NetworkConfig config) {
    std::string why;
    std::exception_ptr error;
    try {
        co_await try_launch(std::move(job), std::move(config));
    } catch (const std::exception& e) {
        error = std::current_exception();
        why = e.what();
    }
    claim_bridge({});
    if (!error) co_return;
    log(Priority::warning, "not started: " + why, message_id::network_start_failed);
    std::rethrow_exception(error);
}

Task<> VirtualNetwork::try_launch(JobPtr job, NetworkConfig config) {
    auto& driver = require_driver();
    if (const auto cannot = driver.unsupported(config); !cannot.empty())
        throw Error{Code::unsupported_configuration,
                    fmt::format("{} cannot be started on this host: {}", words(), fmt::join(cannot, "; "))};
    co_await clear_leftover();
    config = co_await context_.directory.with_bridge(shared_from_this(), std::move(config));
    const auto deadline = in(context_.patience.start);
    const auto live = std::make_shared<LiveNetwork>(context_.ports.loop, words());
    live->config = xml::without_live(std::move(config));
    context_.directory.require_no_overlap(live->config, *this);
    starting_ = live;
    std::exception_ptr error;
    try {
        co_await bring_up(std::move(job), live, deadline);
    } catch (...) {
        error = std::current_exception();
    }
    if (error) co_await give_up_start(live);
    starting_.reset();
    if (error) std::rethrow_exception(error);
    if (listed_) {
        show();
        co_return;
    }
    view_ = described();
    listed_ = true;
    context_.audience.network_added(*this);
}

/// A pool that names a card gives out the functions that the card has now, or their network devices.
Task<> VirtualNetwork::name_functions(LiveNetworkPtr live, Deadline deadline) {
    if (!is_pool(live->config)) co_return;
    auto& forward = *live->config.forward;
    const bool whole = forward_mode(live->config) == ForwardMode::hostdev;
    if (whole ? !forward.addresses.empty() : !forward.interfaces.empty()) co_return;
    for (const auto& card : forward.cards)
        for (auto& function : co_await context_.driver->functions_of(card.dev, deadline)) {
            if (whole)
                forward.addresses.push_back(std::move(function.address));
            else if (!function.device.empty())
                forward.interfaces.emplace_back().dev = std::move(function.device);
        }
}

Task<> VirtualNetwork::bring_up(JobPtr job, LiveNetworkPtr live, Deadline deadline) {
    co_await name_functions(live, deadline);
    NetworkStartRequest request{.config = live->config,
                                .events = *this,
                                .deadline = deadline,
                                .stop = job->stop(),
                                .unfinished = [this, live = live.get()](std::string driver_state) {
                                    live->driver_state = std::move(driver_state);
                                    save_state(*live);
                                }};
    live->running = co_await context_.driver->start(std::move(request));
    if (job->stop().stop_requested()) throw Cancelled{fmt::format("the start of {}", words())};
    live->config = without_connections(live->running->config());
    live->driver_state = live->running->driver_state();
    live->started = true;
    save_state(*live);
    live_ = live;
    co_await context_.guests.reconnect(shared_from_this());
}

/// The start has failed with the lane held: nothing of it stays.
Task<> VirtualNetwork::give_up_start(LiveNetworkPtr live) {
    std::string left;
    if (live->running) {
        try {
            co_await live->running->stop(in(context_.patience.verb));
        } catch (const std::exception& e) {
            left = e.what();
        }
    }
    live->running.reset();
    if (left.empty()) {
        try {
            context_.store.remove_state(view_.name);
        } catch (const std::exception& e) {
            log(Priority::warning, e.what());
        }
        co_return;
    }
    log(Priority::error, fmt::format("A start that failed could not be undone: {}", left));
    leftover_ = NetworkStatus{.boot_id = context_.store.boot_id(),
                              .config = live->config,
                              .driver_state = live->driver_state,
                              .class_ids = {},
                              .ports = {}};
    leftover_reason_ = fmt::format("something is left of a start that failed: {}", left);
    show();
}

// ---- stop

JobPtr VirtualNetwork::stop(Caller caller) {
    return begin("stop", "network.stop", std::move(caller),
                 [](VirtualNetwork& self, JobPtr job) { return self.do_stop(std::move(job)); });
}

/// A start that hangs is no reason to wait: it is cancelled, and what it has made is taken down.
Task<> VirtualNetwork::do_stop(JobPtr job) {
    require_listed();
    const bool way_cleared = lane_.clear_way();
    if (!way_cleared && !live_ && !leftover_)
        throw Error{Code::invalid_state, fmt::format("{} is inactive; 'stop' needs it active", words())};
    const auto hold = co_await lane_.enter_next(job, in(context_.patience.verb));
    if (!listed_) co_return;
    co_await clear_leftover();
    if (live_)
        co_await take_down(live_);
    else if (!definition_)
        vanish();
    else
        show();
}

Task<> VirtualNetwork::take_down(LiveNetworkPtr live) {
    const auto deadline = in(context_.patience.verb);
    live->going = true;
    std::exception_ptr error;
    try {
        const auto turn = co_await live->driver_lane.enter_next(nullptr, deadline);
        live->started = false;  // a daemon that dies from here on is followed by one that goes on with this
        save_if_live(live);
        co_await live->running->stop(deadline);
    } catch (...) {
        error = std::current_exception();
    }
    if (error) {
        live->going = false;
        live->started = true;
        live->driver_state = live->running->driver_state();
        save_if_live(live);
        std::rethrow_exception(error);
    }
    live_.reset();
    try {
        context_.store.remove_state(view_.name);
    } catch (const std::exception& e) {
        log(Priority::warning, e.what());
    }
    show();
    if (!definition_) vanish();
}

// ---- what is left of another life

/// With the lane held. What cannot be taken down is in the way of a start.
Task<> VirtualNetwork::clear_leftover() {
    if (!leftover_) co_return;
    co_await undo_record(*leftover_);
    leftover_.reset();
    leftover_reason_.clear();
}

Task<> VirtualNetwork::undo_record(NetworkStatus status) {
    co_await require_driver().undo(std::move(status.config), std::move(status.driver_state),
                                   in(context_.patience.verb));
    context_.store.remove_state(view_.name);
}

}  // namespace virtbus
