// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/event_log.hpp"

#include <fmt/format.h>

#include "service/domain.hpp"
#include "service/jobs.hpp"
#include "service/networks.hpp"
#include "virtbus/message_ids.hpp"

namespace virtbus {

void EventLog::write(const DomainView& domain, Priority priority, std::string_view message_id,
                     const std::string& what) {
    log_.write(priority, fmt::format("domain '{}': {}", domain.name, what),
               {{"DOMAIN", domain.name}, {"DOMAIN_UUID", domain.uuid}, {"MESSAGE_ID", std::string{message_id}}});
}

void EventLog::domain_added(Domain& domain) {
    if (started_ && domain.view().persistent)
        write(domain.view(), Priority::info, message_id::domain_defined, "defined");
    next_.domain_added(domain);
}

void EventLog::domain_changed(Domain& domain, const DomainView& before) {
    const auto& now = domain.view();
    if (now.state != before.state) state_changed(before, now);
    if (started_ && now.persistent != before.persistent)
        write(now, Priority::info, now.persistent ? message_id::domain_defined : message_id::domain_undefined,
              now.persistent ? "defined" : "undefined; it runs on");
    if (now.responsive != before.responsive && is_active(now.state) && is_active(before.state))
        write(now, now.responsive ? Priority::info : Priority::warning, message_id::domain_unresponsive,
              now.responsive ? "answers again" : "does not answer");
    next_.domain_changed(domain, before);
}

void EventLog::state_changed(const DomainView& before, const DomainView& now) {
    const auto reason = fmt::format("({})", now.state_reason);
    const bool was_active = is_active(before.state) && before.state != State::starting;
    const bool now_active = is_active(now.state) && now.state != State::starting;
    const bool died = now.state == State::shutoff && now.state_reason == "crashed";
    if (now.state == State::crashed || died)
        write(now, Priority::warning, message_id::domain_crashed, died ? "its process has died" : "crashed " + reason);
    else if (now.state == State::shutdown && now.state_reason == "unkillable")
        write(now, Priority::error, message_id::domain_unkillable, "its process does not die");
    else if (now_active && !was_active)
        write(now, Priority::info, message_id::domain_started, fmt::format("{} {}", word(now.state), reason));
    else if (before.state == State::starting && !now_active)
        write(now, Priority::warning, message_id::domain_start_failed, "not started " + reason);
    else if (was_active && !now_active)
        write(now, Priority::info, message_id::domain_stopped, "stopped " + reason);
}

void EventLog::domain_event(Domain& domain, const DomainEvent& event) {
    if (event.kind == DomainEvent::Kind::io_error)
        write(domain.view(), Priority::warning, message_id::domain_io_error,
              fmt::format("disk {} has an error ({}), action: {}", event.alias, event.reason, event.action));
    if (event.kind == DomainEvent::Kind::watchdog_fired)
        write(domain.view(), Priority::warning, message_id::watchdog_fired,
              fmt::format("its watchdog has fired, action: {}", event.action));
    next_.domain_event(domain, event);
}

void EventLog::domain_removed(const DomainView& last) {
    if (last.persistent) write(last, Priority::info, message_id::domain_undefined, "undefined");
    next_.domain_removed(last);
}

void EventLog::activity(const NetworkView& network) {
    const auto id = network.active ? message_id::network_started : message_id::network_stopped;
    log_.write(Priority::info,
               fmt::format("network '{}': {}", network.name, network.active ? "active" : "no longer active"),
               {{"NETWORK", network.name}, {"NETWORK_UUID", network.uuid}, {"MESSAGE_ID", std::string{id}}});
}

void EventLog::network_added(Network& network) {
    if (started_ && network.view().active) activity(network.view());
    next_.network_added(network);
}

void EventLog::network_changed(Network& network, const NetworkView& before) {
    if (network.view().active != before.active) activity(network.view());
    next_.network_changed(network, before);
}

void EventLog::job_completed(Job& job) {
    const auto& view = job.view();
    if (view.state == JobState::failed) {
        Log::Fields fields{{"MESSAGE_ID", std::string{message_id::job_failed}}};
        for (const auto& uuid : view.domains) fields.emplace_back("DOMAIN_UUID", uuid);
        for (const auto& uuid : view.networks) fields.emplace_back("NETWORK_UUID", uuid);
        log_.write(Priority::warning, fmt::format("{} failed: {}", view.operation, view.error_message), fields);
    }
    next_.job_completed(job);
}

}  // namespace virtbus
