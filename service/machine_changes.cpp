// SPDX-License-Identifier: LGPL-2.1-or-later
// Verbs on the definition: storing, undefining, renaming, changing parts of it.
#include <fmt/format.h>

#include <algorithm>

#include "service/domain_view.hpp"
#include "service/machine.hpp"
#include "service/metadata.hpp"
#include "service/moments/snapshots.hpp"
#include "service/xml/domain_xml.hpp"

namespace virtbus {

namespace {

Task<> complete(HypervisorDriver& driver, DomainConfig& config, const DomainConfig& previous) {
    co_await driver.complete(config, &previous);
}

}  // namespace

Task<> Machine::store(DomainConfig config, std::vector<std::string> unknown) {
    auto text = render(config, {});
    auto path = definition_ ? definition_->path() : context_.store.path(Kept::definition, view_.uuid);
    co_await context_.store.write_definition(path, text);
    const bool was_broken = definition_ && !definition_->problem().empty();
    definition_.emplace(std::move(path), std::move(text), std::move(unknown));
    const auto show = [&](DomainView& view) {
        view.persistent = true;
        if (run_ && !run_->over()) {
            view.updated = live_differs();
            return;
        }
        show_definition(view, config);
        if (was_broken) view.state_reason = "unknown";
    };
    if (listed_) {
        change(show);
        co_return;
    }
    show(view_);
    view_.state_changed = context_.ports.clock.now();
    view_.has_managed_save = context_.store.has_managed_save(view_.uuid);
    load_moments();
    listed_ = true;
    context_.audience.domain_added(*this);
}

// ---- autostart
// ---------------------------------------------------------------------------------------------------------

JobPtr Machine::set_autostart(bool autostart, Caller caller) {
    return begin("set-autostart", "domain.configure", std::move(caller), false,
                 [autostart](Machine& self, JobPtr job) { return self.do_set_autostart(std::move(job), autostart); });
}

Task<> Machine::do_set_autostart(JobPtr job, bool autostart) {
    const auto hold = co_await lane_.enter(std::move(job), Lane::Subject::definition);
    require_listed();
    require_stored("set-autostart");
    if (autostart == view_.autostart) co_return;
    co_await context_.store.set_autostart(view_.uuid, definition_->path(), autostart);
    change([&](DomainView& view) { view.autostart = autostart; });
}

// ---- undefine
// ------------------------------------------------------------------------------------------------------------

JobPtr Machine::undefine(UndefineOptions options, Caller caller) {
    return begin("undefine", "domain.delete", std::move(caller), false,
                 [options](Machine& self, JobPtr job) { return self.do_undefine(std::move(job), options); });
}

/// All guards, in their order; what is to be removed with the definition when they let it pass.
Store::Undefining Machine::guard_undefine(const UndefineOptions& options) const {
    if (options.nvram && options.keep_nvram)
        throw Error{Code::conflicting_options, "'nvram' and 'keep-nvram' exclude each other; give one of them"};
    if (options.tpm && options.keep_tpm)
        throw Error{Code::conflicting_options, "'tpm' and 'keep-tpm' exclude each other; give one of them"};
    require_stored("undefine");

    auto& store = context_.store;
    const auto refuse = [&](Code code, std::string found, std::string_view option) {
        throw Error{code, fmt::format("{} has {}; give '{}'", words(), found, option)};
    };
    const bool running = run_ && !run_->over();
    Store::Undefining todo{.uuid = view_.uuid, .definition = definition_->path(), .kinds = {}, .files = {}};
    if (const auto count = running ? 0 : store.snapshots(view_.uuid)) {
        if (!options.snapshots_metadata)
            refuse(Code::has_snapshots, fmt::format("{} snapshot{}", count, count == 1 ? "" : "s"),
                   "snapshots-metadata");
        todo.kinds.push_back(Kept::snapshots);
    }
    if (const auto count = running ? 0 : store.checkpoints(view_.uuid)) {
        if (!options.checkpoints_metadata)
            refuse(Code::has_checkpoints, fmt::format("{} checkpoint{}", count, count == 1 ? "" : "s"),
                   "checkpoints-metadata");
        todo.kinds.push_back(Kept::checkpoints);
    }
    if (store.has_managed_save(view_.uuid)) {
        if (!options.managed_save) refuse(Code::has_managed_save, "a managed-save image", "managed-save");
        todo.kinds.push_back(Kept::managed_save);
    }
    const auto config = definition_->problem().empty() ? definition_->config() : DomainConfig{};
    todo.files = store.nvram(view_.uuid);
    if (const auto named = variable_store(config.os);
        named.starts_with('/') && store.exists(named) &&
        std::find(todo.files.begin(), todo.files.end(), named) == todo.files.end())
        todo.files.push_back(named);
    if (!todo.files.empty() && !options.nvram && !options.keep_nvram)
        refuse(Code::has_nvram, fmt::format("a variable store, {}", todo.files.front()), "nvram' or 'keep-nvram");
    if (options.keep_nvram) todo.files.clear();
    bool keep_tpm = options.keep_tpm;
    for (const auto& tpm : config.devices.tpms)
        keep_tpm = keep_tpm || (!options.tpm && tpm.backend.persistent_state.value_or(false));
    if (store.has_tpm(view_.uuid) && !keep_tpm) todo.kinds.push_back(Kept::tpm);
    return todo;
}

Task<> Machine::do_undefine(JobPtr job, UndefineOptions options) {
    const auto hold = co_await lane_.enter(std::move(job), Lane::Subject::definition);
    require_listed();
    const auto todo = guard_undefine(options);
    if (run_ && !run_->over()) {
        co_await undefine_running(options);
        co_return;
    }
    co_await finish_run();
    auto& store = context_.store;
    if (todo.kinds.empty() && todo.files.empty()) {
        co_await store.remove_definition(view_.uuid, todo.definition);
    } else {
        // From the journal on it will be finished, by this daemon or the next.
        co_await store.write_undefining(todo);
        std::exception_ptr error;
        try {
            co_await store.carry_out(todo);
        } catch (...) {
            error = std::current_exception();
        }
        co_await store.close_undefining(view_.uuid);
        if (error) std::rethrow_exception(error);
    }
    definition_.reset();
    vanish();
}

Task<> Machine::undefine_running(UndefineOptions options) {
    const auto run = run_;
    // On record before the definition goes, so that whoever sees the end knows; without effect while there is one.
    run->remove_nvram = options.nvram;
    run->remove_tpm = options.tpm;
    run->keep_tpm = options.keep_tpm;
    save_status();
    if (options.managed_save) co_await context_.store.remove_all(Kept::managed_save, view_.uuid);
    co_await context_.store.remove_definition(view_.uuid, definition_->path());
    definition_.reset();
    change([](DomainView& view) {
        view.persistent = view.autostart = view.updated = false;
        view.has_managed_save = false;
    });
    // It ended while the files went: its end waits for the lane and will find it transient.
}

// ---- rename
// ----------------------------------------------------------------------------------------------------------------

JobPtr Machine::rename(std::string name, Caller caller) {
    return begin("rename", "domain.configure", std::move(caller), false,
                 [name = std::move(name)](Machine& self, JobPtr job) { return self.do_rename(std::move(job), name); });
}

/// Files are named by the UUID, so one durable replacement of the definition makes a rename whole or not at all.
Task<> Machine::do_rename(JobPtr job, std::string name) {
    const auto hold = co_await lane_.enter(std::move(job), Lane::Subject::definition);
    require_listed();
    xml::require_name(name);
    require_stored("rename");
    co_await finish_run();
    require_state({State::shutoff}, "rename");
    if (name == view_.name) co_return;
    auto config = definition_->config();
    const auto unknown = definition_->unknown();
    context_.directory.reserve_name(name, *this);
    config.name = name;
    std::exception_ptr error;
    const auto old = view_.name;
    try {
        co_await store(std::move(config), unknown);
    } catch (...) {
        error = std::current_exception();
    }
    context_.directory.release_name(error ? name : old, *this);
    if (error) std::rethrow_exception(error);
    lane_.rename(words());
}

// ---- parts of the definition
// -------------------------------------------------------------------------------------------------

JobPtr Machine::begin_change(std::string operation, Change change, Caller caller) {
    return begin(
        std::move(operation), "domain.configure", std::move(caller), false,
        [change = std::move(change)](Machine& self, JobPtr job) { return self.do_change(std::move(job), change); });
}

Task<> Machine::do_change(JobPtr job, Change change) {
    // Cancelled by a stop when the guest is to act.
    const bool acts = change.live == Change::Live::guest && change.scope != ChangeScope::persistent;
    const auto hold = co_await lane_.enter(job, acts ? Lane::Subject::guest : Lane::Subject::definition);
    require_listed();
    const auto [live, stored] = scopes_of(change.scope, change.what);
    if (live && change.live == Change::Live::impossible)
        throw Error{Code::unsupported,
                    fmt::format("{} runs, and its {} cannot be changed while it does; use scope 'persistent' "
                                "to change it from its next start on",
                                words(), change.what)};
    if (live) {
        auto trial = run_->live;
        change.apply(trial);
    }
    if (stored) {
        auto trial = definition_->config();
        change.apply(trial);
    }
    if (live && acts)
        co_await reach_guest(job, run_, fmt::format("changing the {} of {}", change.what, words()), change.act);
    if (stored) co_await change_stored(change);
    if (live && run_ && run_->guest && !run_->over()) change_live(change);
}

Machine::Scopes Machine::scopes_of(ChangeScope scope, std::string_view what) const {
    const bool running = run_ && run_->guest && !run_->over();
    Scopes scopes;
    scopes.live =
        scope == ChangeScope::live || scope == ChangeScope::both || (scope == ChangeScope::current && running);
    scopes.stored =
        scope == ChangeScope::persistent || scope == ChangeScope::both || (scope == ChangeScope::current && !running);
    if (scopes.live && !running)
        throw Error{Code::invalid_state, fmt::format("{} is {}; a live change of its {} needs it running", words(),
                                                     word(view_.state), what)};
    if (scopes.stored) require_stored(fmt::format("a persistent change of the {}", what));
    return scopes;
}

Task<> Machine::change_stored(const Change& change) {
    const auto before = definition_->config();
    auto after = before;
    change.apply(after);
    co_await complete(context_.drivers.get_by_type(after.type), after, before);
    if (after == before) co_return;
    const auto unknown = definition_->unknown();
    co_await store(std::move(after), unknown);
}

void Machine::change_live(const Change& change) {
    auto started = understand(run_->started_text, false).config;
    change.apply(started);
    if (change.live == Change::Live::description) change.apply(run_->live);
    run_->started_text = render(started, {});
    run_->live_moved();
    const auto before = view_;
    show_run(view_);
    tell(before);
}

JobPtr Machine::set_metadata(std::string kind, std::string uri, std::string key, std::string value, ChangeScope scope,
                             Caller caller) {
    return begin_change(
        "set-metadata",
        {scope,
         Change::Live::description,
         "metadata",
         [kind, uri, key, value](DomainConfig& config) { write_metadata(config, kind, uri, key, value); },
         {}},
        std::move(caller));
}

JobPtr Machine::set_memory(std::uint64_t bytes, ChangeScope scope, bool maximum, Caller caller) {
    auto apply = [bytes, maximum](DomainConfig& config) {
        constexpr std::uint64_t kib = 1024;
        if (bytes < kib || bytes > (std::uint64_t{1} << 60))
            throw Error{Code::invalid_args, fmt::format("{} bytes cannot be the memory of a domain", bytes)};
        const auto size = (bytes + kib - 1) / kib * kib;
        if (maximum) {
            config.memory = size;
            if (config.current_memory.value_or(0) > size) config.current_memory = size;
            return;
        }
        if (size > config.memory.value_or(0))
            throw Error{Code::invalid_args,
                        fmt::format("domain '{}' has at most {} bytes of memory, {} are asked for; raise "
                                    "the maximum first",
                                    config.name, config.memory.value_or(0), size)};
        config.current_memory = size;
    };
    const auto live = maximum ? Change::Live::impossible : Change::Live::guest;
    return begin_change(
        "set-memory",
        {scope, live, maximum ? "maximum of memory" : "memory", std::move(apply),
         [bytes](Guest& guest, std::stop_token stop) { return guest.set_memory(bytes, std::move(stop)); }},
        std::move(caller));
}

JobPtr Machine::set_vcpus(std::uint32_t count, ChangeScope scope, bool maximum, Caller caller) {
    auto apply = [count, maximum](DomainConfig& config) {
        if (count == 0 || count > 4096)
            throw Error{Code::invalid_args, fmt::format("{} is no possible number of vcpus; 1 to 4096 are", count)};
        const auto most = config.vcpu.value_or(1);
        if (maximum) {
            config.vcpu = count;
            if (config.vcpu_current && *config.vcpu_current >= count) config.vcpu_current.reset();
            std::erase_if(config.vcpus, [&](const Vcpu& vcpu) { return vcpu.id >= count; });
            return;
        }
        if (count > most)
            throw Error{Code::invalid_args,
                        fmt::format("domain '{}' has at most {} vcpus, {} are asked for; raise the maximum "
                                    "first",
                                    config.name, most, count)};
        config.vcpu_current = count == most ? std::nullopt : std::optional{count};
        for (auto& vcpu : config.vcpus) vcpu.enabled = vcpu.id < count;
    };
    const auto live = maximum ? Change::Live::impossible : Change::Live::guest;
    return begin_change(
        "set-vcpus",
        {scope, live, maximum ? "maximum of vcpus" : "number of vcpus", std::move(apply),
         [count](Guest& guest, std::stop_token stop) { return guest.set_vcpus(count, std::move(stop)); }},
        std::move(caller));
}

}  // namespace virtbus
