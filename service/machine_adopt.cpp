// SPDX-License-Identifier: LGPL-2.1-or-later
// Taking up a run after a restart of the daemon.
#include <fmt/format.h>

#include <algorithm>

#include "service/claims.hpp"
#include "service/machine.hpp"
#include "service/moments/backup.hpp"
#include "service/moments/checkpoints.hpp"
#include "service/moments/snapshots.hpp"

namespace virtbus {

Task<> Machine::adopt(LiveStatus status, DomainConfig config, std::vector<std::string> unknown) {
    const auto hold = co_await lane_.enter(nullptr, Lane::Subject::definition);
    const auto run = new_run(context_.drivers.find_by_name(status.driver), std::move(config), std::move(unknown));
    run->id = status.id;
    run->started_at = status.started_at;
    run->started_text = status.started_xml;
    run->live_changed = status.live_changed;
    run->remove_nvram = status.remove_nvram;
    run->remove_tpm = status.remove_tpm;
    run->keep_tpm = status.keep_tpm;
    run->saving = status.saving;
    run->restoring = status.restoring;
    run->resources = std::make_unique<ResourceBroker>(broker_setting(), status.links);
    run_ = run;
    if (!definition_) load_moments();
    show_run(view_);
    view_.state = status.state;
    view_.state_reason = status.reason;
    view_.state_changed = status.state_changed;
    view_.responsive = false;

    GuestEnd end{"failed", {}};
    const auto dies_with = status.dies_with;
    auto guest = co_await find_guest(run, std::move(status), end);
    if (run->over()) end = *run->end;
    if (!guest || run->over()) {
        run->guest = std::move(guest);
        run->end.reset();
        log(Priority::info, fmt::format("It ended while no daemon watched ({})", end.reason));
        if (run->saving) {
            run->saved = co_await was_committed(*run->saving);
            if (!run->saved) co_await remove_unfinished(*run->saving);
        }
        take_end(std::move(end));
        co_await sleep(context_.ports.loop, Duration{0});
        co_await finish_run();
        co_return;
    }
    run->guest = std::move(guest);
    run->live = run->guest->config();
    run->live_moved();
    change([&](DomainView& view) {
        show_run(view);
        view.responsive = true;
        if (view.state == State::starting) {
            view.state = run->restoring && !run->restoring->running ? State::paused : State::running;
            view.state_reason = run->restoring ? "restored" : "booted";
        }
    });
    if (run->restoring) co_await settle_restore(run);
    if (run->saving) co_await settle_save(run);
    if (run_ != run || run->over()) co_return;
    co_await checkpoints_->recover();
    co_await backups_->clear_leftovers();
    co_await snapshots_->recover();
    if (run_ != run || run->over()) co_return;
    if (dies_with) {
        die_with(run, *dies_with);
        // A peer's connection has ended with the daemon it was made to.
        if (!dies_with->on_bus) stop({}, {});
    }
}

Task<> Machine::reconnect_links() {
    const auto self = shared_from_this();
    const auto run = run_;
    if (!run || run->over() || !run->resources || !context_.links) co_return;
    const auto links = run->resources->links();
    const auto interfaces = run->live.devices.interfaces;
    for (const auto& link : links) {
        const auto interface = std::ranges::find(interfaces, link.alias, [](const auto& i) { return i.info.alias; });
        if (link.alias.empty() || is_claim(link.key) || interface == interfaces.end()) continue;
        LinkRequest request{.domain_uuid = view_.uuid, .domain_name = view_.name, .interface = *interface};
        if (interface->driver) request.queues = std::max(interface->driver->queues.value_or(1), 1u);
        try {
            co_await context_.links->reconnect_link(link.key, std::move(request), in(context_.patience.verb));
        } catch (const std::exception& e) {
            log(Priority::warning, fmt::format("Interface {} is not connected: {}", interface->mac, e.what()));
        }
    }
}

Task<std::unique_ptr<Guest>> Machine::find_guest(const RunPtr& run, LiveStatus status, GuestEnd& end) {
    if (!is_active(status.state)) {
        end = {status.reason, {}};
        co_return nullptr;
    }
    if (status.driver_state.empty()) {
        log(Priority::warning, "The daemon ended in the middle of its start; the start is undone");
        co_return nullptr;
    }
    if (!run->driver) {
        log(Priority::error,
            fmt::format("No driver '{}' is there to take it up; its process is left alone", status.driver));
        co_return nullptr;
    }
    try {
        co_return co_await run->driver->adopt(run->live, std::move(status.driver_state), *this, end);
    } catch (const std::exception& e) {
        log(Priority::error, fmt::format("It could not be taken up: {}", e.what()));
        end.last_words = e.what();
    }
    co_return nullptr;
}

}  // namespace virtbus
