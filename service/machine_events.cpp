// SPDX-License-Identifier: LGPL-2.1-or-later
// What the guest tells.
#include "service/machine.hpp"

namespace virtbus {

void Machine::state_changed(State state, std::string reason) {
    if (!run_ || !run_->guest || run_->over()) return;
    if (view_.state_reason == "unkillable") return;
    if (state == view_.state && (reason.empty() || reason == "unknown")) return;
    set_state(state, std::move(reason));
}

void Machine::ended(GuestEnd end) {
    if (!run_ || run_->over()) return;
    if (run_->guest)
        take_end(std::move(end));
    else
        run_->end = std::move(end);  // whoever starts it or takes it up looks
}

void Machine::rebooted() {
    if (run_ && listed_) context_.audience.domain_event(*this, {.kind = DomainEvent::Kind::rebooted});
}

void Machine::config_changed(DomainConfig config) {
    if (run_ && run_->guest && !run_->over()) take_config(std::move(config));
}

void Machine::take_config(DomainConfig config) {
    const auto& before = run_->live;
    follow_live(before, config);
    // The driver knows nothing of what was said about the running domain since it started.
    config.title = before.title;
    config.description = before.description;
    config.metadata = before.metadata;
    run_->live = std::move(config);
    run_->live_moved();
    const auto shown = view_;
    show_run(view_);
    tell(shown);
}

void Machine::responsive_changed(bool responsive) {
    if (run_ && !run_->over()) change([&](DomainView& view) { view.responsive = responsive; });
}

void Machine::device_added(std::string alias) {
    context_.audience.domain_event(*this, {.kind = DomainEvent::Kind::device_added, .alias = std::move(alias)});
}

void Machine::device_removed(std::string alias) {
    if (run_ && run_->resources && !run_->over()) context_.scope.spawn(close_links(shared_from_this(), run_, alias));
    context_.audience.domain_event(*this, {.kind = DomainEvent::Kind::device_removed, .alias = std::move(alias)});
}

void Machine::device_removal_failed(std::string alias) {
    context_.audience.domain_event(*this,
                                   {.kind = DomainEvent::Kind::device_removal_failed, .alias = std::move(alias)});
}

void Machine::io_error(std::string alias, std::string action, std::string reason) {
    context_.audience.domain_event(*this, {.kind = DomainEvent::Kind::io_error,
                                           .alias = std::move(alias),
                                           .action = std::move(action),
                                           .reason = std::move(reason)});
}

void Machine::watchdog_fired(std::string action) {
    context_.audience.domain_event(*this, {.kind = DomainEvent::Kind::watchdog_fired, .action = std::move(action)});
}

void Machine::agent_changed(bool connected) {
    context_.audience.domain_event(*this, {.kind = DomainEvent::Kind::agent_changed, .connected = connected});
}

}  // namespace virtbus
