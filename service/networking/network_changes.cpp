// SPDX-License-Identifier: LGPL-2.1-or-later
// Verbs on the definition: storing, undefining, changing parts of it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "service/networking/network_guards.hpp"
#include "service/networking/network_update.hpp"
#include "service/networking/virtual_network.hpp"
#include "service/xml/network_xml.hpp"

namespace virtbus {

Task<> VirtualNetwork::store(NetworkConfig config) {
    auto text = xml::format_network(config);
    auto path = definition_ ? definition_->path : context_.store.definition_path(view_.uuid);
    co_await context_.store.write_definition(path, text);
    definition_ = NetworkDefinition{std::move(path), std::move(text), std::move(config), {}};
    if (listed_) {
        show();
        co_return;
    }
    view_ = described();
    listed_ = true;
    context_.audience.network_added(*this);
}

// ---- autostart

JobPtr VirtualNetwork::set_autostart(bool autostart, Caller caller) {
    return begin(
        "set-autostart", "network.configure", std::move(caller),
        [autostart](VirtualNetwork& self, JobPtr job) { return self.do_set_autostart(std::move(job), autostart); });
}

Task<> VirtualNetwork::do_set_autostart(JobPtr job, bool autostart) {
    const auto hold = co_await lane_.enter(std::move(job), Lane::Subject::definition);
    require_listed();
    require_stored("set-autostart");
    if (autostart == view_.autostart) co_return;
    co_await context_.store.set_autostart(view_.uuid, definition_->path, autostart);
    const auto before = view_;
    view_.autostart = autostart;
    context_.audience.network_changed(*this, before);
}

// ---- undefine

JobPtr VirtualNetwork::undefine(Caller caller) {
    return begin("undefine", "network.delete", std::move(caller),
                 [](VirtualNetwork& self, JobPtr job) { return self.do_undefine(std::move(job)); });
}

Task<> VirtualNetwork::do_undefine(JobPtr job) {
    const auto hold = co_await lane_.enter(std::move(job), Lane::Subject::definition);
    require_listed();
    require_stored("undefine");
    co_await clear_leftover();
    co_await context_.store.remove_definition(view_.uuid, definition_->path);
    definition_.reset();
    const auto before = view_;
    view_.autostart = false;
    view_ = described();
    if (live_)
        context_.audience.network_changed(*this, before);
    else
        vanish();
}

// ---- update

struct VirtualNetwork::UpdatePlan {
    LiveNetworkPtr live;  ///< null: the active network is not meant
    std::optional<NetworkConfig> running, stored;
};

JobPtr VirtualNetwork::update(NetworkUpdate update, ChangeScope scope, bool force, Caller caller) {
    return begin("update", "network.configure", std::move(caller),
                 [update = std::move(update), scope, force](VirtualNetwork& self, JobPtr job) {
                     return self.do_update(std::move(job), update, scope, force);
                 });
}

/// Both results are worked out and checked before the first change.
Task<> VirtualNetwork::do_update(JobPtr job, NetworkUpdate update, ChangeScope scope, bool force) {
    const auto hold = co_await lane_.enter(std::move(job), Lane::Subject::definition);
    require_listed();
    const bool live =
        scope == ChangeScope::live || scope == ChangeScope::both || (scope == ChangeScope::current && live_ != nullptr);
    const bool stored = scope == ChangeScope::persistent || scope == ChangeScope::both || !live;
    if (live && !live_)
        throw Error{Code::invalid_state,
                    fmt::format("{} is inactive; a live update needs it active. Use scope 'persistent'", words())};
    if (stored) require_stored("a persistent update");
    if (stored && !definition_->problem.empty())
        throw Error{Code::unsupported_configuration, fmt::format("the definition {} of {} is unusable: {}",
                                                                 definition_->path, words(), definition_->problem)};
    const auto changed = [&](const NetworkConfig& config) {
        try {
            return updated(config, update);
        } catch (const Error& e) {
            throw Error{e.code(), fmt::format("{}: {}", words(), e.what())};
        }
    };
    UpdatePlan plan;
    if (stored) plan.stored = changed(definition_->config);
    if (live) {
        plan.live = live_;
        plan.running = changed(live_->config);
        check_live_update(plan, force);
    }
    const auto before = live ? live_->config : NetworkConfig{};
    if (live) co_await update_live(plan.live, *plan.running);
    if (!stored) co_return show();
    std::exception_ptr error;
    try {
        co_await update_stored(*plan.stored);
    } catch (...) {
        error = std::current_exception();
    }
    if (!error) co_return;
    if (live && live_ == plan.live) {
        try {
            co_await update_live(plan.live, before);
        } catch (const std::exception& e) {
            log(Priority::error,
                fmt::format("A change that could not be stored could not be taken back: {}", e.what()));
            show();
        }
    }
    std::rethrow_exception(error);
}

void VirtualNetwork::check_live_update(const UpdatePlan& plan, bool force) const {
    if (const auto cannot = require_driver().unsupported(*plan.running); !cannot.empty())
        throw Error{Code::unsupported_configuration,
                    fmt::format("{} cannot be changed so on this host: {}", words(), fmt::join(cannot, "; "))};
    context_.directory.require_no_overlap(*plan.running, *this);
    if (force) return;
    if (const auto broken = breakage(plan.live->config, *plan.running, plan.live->table))
        throw Error{
            Code::network_in_use,
            fmt::format("{} is in use by domain{} '{}': {}. Give 'force' to change it all the same", words(),
                        broken->domains.size() == 1 ? "" : "s", fmt::join(broken->domains, "', '"), broken->what)};
}

/// The driver first, then the record; a change that cannot be recorded is taken back.
Task<> VirtualNetwork::update_live(LiveNetworkPtr live, NetworkConfig config) {
    const auto deadline = in(context_.patience.verb);
    const auto turn = co_await live->driver_lane.enter(nullptr, Lane::Subject::definition);
    if (live_ != live || live->going)
        throw Error{Code::invalid_state, fmt::format("{} was stopped meanwhile", words())};
    const auto before = live->config;
    std::exception_ptr error;
    try {
        co_await live->running->update(std::move(config), deadline);
        live->config = without_connections(live->running->config());
        live->driver_state = live->running->driver_state();
        save_state(*live);
    } catch (...) {
        error = std::current_exception();
    }
    if (!error) co_return;
    live->config = before;
    try {
        co_await live->running->update(before, deadline);
    } catch (const std::exception& e) {
        log(Priority::error, fmt::format("A change that failed could not be taken back: {}", e.what()));
    }
    live->config = without_connections(live->running->config());
    live->driver_state = live->running->driver_state();
    save_if_live(live);
    std::rethrow_exception(error);
}

Task<> VirtualNetwork::update_stored(NetworkConfig config) {
    require_stored("a persistent update");
    co_await store(std::move(config));
}

}  // namespace virtbus
