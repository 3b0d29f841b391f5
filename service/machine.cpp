// SPDX-License-Identifier: LGPL-2.1-or-later
// State, view and what is answered at once.
#include "service/machine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "service/domain_view.hpp"
#include "service/metadata.hpp"
#include "service/moments/backup.hpp"
#include "service/moments/checkpoints.hpp"
#include "service/moments/snapshots.hpp"

namespace virtbus {

const std::string& Run::text(bool secure) const {
    auto& text = secure ? live_text : live_public_text;
    if (text.empty()) text = render(live, {.text = Text::live, .secure = secure});
    return text;
}

Machine::Machine(Context& context, std::string uuid, std::string name)
    : context_{context}, lane_{context.ports.loop, fmt::format("domain '{}'", name)} {
    view_.uuid = std::move(uuid);
    view_.name = std::move(name);
    checkpoints_ = std::make_unique<CheckpointBook>(*this);
    backups_ = std::make_unique<BackupDesk>(*this, *checkpoints_);
    snapshots_ = std::make_unique<SnapshotBook>(*this);
}

Machine::~Machine() = default;

Checkpoints& Machine::checkpoints() {
    return *checkpoints_;
}

Backups& Machine::backups() {
    return *backups_;
}

Snapshots& Machine::snapshots() {
    return *snapshots_;
}

bool Machine::has_frozen(const std::string& path) const {
    return snapshots_->uses(path);
}

Task<> Machine::settle_moments() {
    if (!snapshots_->interrupted() && !checkpoints_->interrupted()) co_return;
    const auto hold = co_await lane_.enter(nullptr, Lane::Subject::definition);
    // What the daemon before this one had at work on the images may still be on its way out.
    constexpr Duration shortest{100}, longest{2000};
    for (auto wait = shortest;; wait *= 2) {
        co_await checkpoints_->recover();
        co_await snapshots_->recover();
        if ((!snapshots_->interrupted() && !checkpoints_->interrupted()) || wait > longest) co_return;
        co_await sleep(context_.ports.loop, wait);
    }
}

// ---- the view
// --------------------------------------------------------------------------------------------------------

void Machine::load(Definition definition, const DomainConfig* config, bool autostart, bool managed_save) {
    definition_ = std::move(definition);
    view_.persistent = true;
    view_.autostart = autostart;
    view_.has_managed_save = managed_save;
    if (config) show_definition(view_, *config);
    if (!definition_->problem().empty()) view_.state_reason = definition_->problem();
    load_moments();
}

/// Records are kept by UUID: one that comes back finds its own.
void Machine::load_moments() {
    checkpoints_->load();
    snapshots_->load();
}

void Machine::show_definition(DomainView& view, const DomainConfig& config) const {
    describe(view, config);
    const auto* driver = context_.drivers.find_by_type(config.type);
    view.driver = driver ? driver->name() : std::string{};
}

void Machine::show_run(DomainView& view) const {
    describe(view, run_->live);
    view.driver = run_->driver ? run_->driver->name() : std::string{};
    view.id = run_->id;
    view.started_at = run_->started_at;
    view.process_id = run_->guest ? run_->guest->pid() : 0;
    view.unit = run_->guest ? run_->guest->unit() : std::string{};
    view.updated = live_differs();
}

void Machine::show_stored(DomainView& view) const {
    view.id = view.process_id = 0;
    view.started_at = 0;
    view.unit.clear();
    view.responsive = true;
    view.updated = false;
    if (definition_ && definition_->problem().empty()) show_definition(view, definition_->config());
}

bool Machine::live_differs() const {
    return run_ && definition_ && (run_->live_changed || definition_->text() != run_->started_text);
}

void Machine::tell(const DomainView& before) {
    if (run_ && before.jobs == view_.jobs) {
        try {
            save_status();
        } catch (const std::exception& e) {
            log(Priority::warning, fmt::format("Its status could not be recorded: {}", e.what()));
        }
    }
    if (listed_) context_.audience.domain_changed(*this, before);
}

void Machine::set_state(State state, std::string reason) {
    change([&](DomainView& view) {
        if (view.state != state) view.state_changed = context_.ports.clock.now();
        view.state = state;
        view.state_reason = std::move(reason);
    });
}

void Machine::save_status() const {
    LiveStatus status;
    status.boot_id = context_.store.boot_id();
    status.uuid = view_.uuid;
    status.driver = run_->driver ? run_->driver->name() : view_.driver;
    status.id = run_->id;
    status.state = view_.state;
    status.reason = view_.state_reason;
    status.state_changed = view_.state_changed;
    status.started_at = run_->started_at;
    status.persistent = definition_.has_value();
    status.live_changed = run_->live_changed;
    status.live_xml = run_->text(true);
    status.started_xml = run_->started_text;
    status.driver_state = run_->guest ? run_->guest->driver_state() : run_->unfinished;
    if (run_->resources) status.links = run_->resources->links();
    status.dies_with = run_->dies_with;
    status.saving = run_->saving;
    status.restoring = run_->restoring;
    status.remove_nvram = run_->remove_nvram;
    status.remove_tpm = run_->remove_tpm;
    status.keep_tpm = run_->keep_tpm;
    context_.store.write_status(status);
}

void Machine::appear(const DomainConfig& config) {
    show_definition(view_, config);
    load_moments();
    listed_ = true;
    context_.audience.domain_added(*this);
}

void Machine::vanish_if_gone() {
    if (listed_ && !definition_ && !run_) vanish();
}

void Machine::vanish() {
    checkpoints_->forget();
    snapshots_->forget();
    listed_ = false;
    context_.directory.remove(*this);
    context_.audience.domain_removed(view_);
}

bool Machine::has_store(const std::string& path) const {
    if (path.starts_with(context_.store.path(Kept::nvram, view_.uuid))) return true;
    const auto same = [&](const std::string& other) {
        if (other.empty()) return false;
        const std::filesystem::path one{path}, two{other};
        if (one == two.lexically_normal()) return true;
        std::error_code ignored;  // the same file by another name
        return one.filename() == two.filename() && std::filesystem::equivalent(one, two, ignored);
    };
    if (same(view_.firmware_vars)) return true;
    if (!definition_) return false;
    // A text that could not be understood names whatever stands in it.
    if (!definition_->problem().empty())
        return definition_->text().find(std::filesystem::path{path}.filename().string()) != std::string::npos;
    return run_ && same(variable_store(definition_->config().os));
}

void Machine::refresh_jobs() {
    std::vector<std::uint64_t> ids;
    for (const auto& job : context_.jobs.list()) {
        const auto& domains = job->view().domains;
        if (!job->finished() && std::find(domains.begin(), domains.end(), view_.uuid) != domains.end())
            ids.push_back(job->id());
    }
    change([&](DomainView& view) { view.jobs = std::move(ids); });
}

void Machine::log(Priority priority, const std::string& message) const {
    context_.ports.log.write(priority, fmt::format("{}: {}", words(), message),
                             {{"DOMAIN", view_.name}, {"DOMAIN_UUID", view_.uuid}});
}

// ---- guards
// ----------------------------------------------------------------------------------------------------------

std::string Machine::words() const {
    return fmt::format("domain '{}'", view_.name);
}

void Machine::require_listed() const {
    if (!listed_) throw Error{Code::no_such_domain, fmt::format("{} ({}) is gone", words(), view_.uuid)};
}

void Machine::require_state(const std::vector<State>& allowed, std::string_view verb) const {
    if (std::find(allowed.begin(), allowed.end(), view_.state) != allowed.end()) return;
    std::vector<std::string_view> needed;
    for (const auto state : allowed) needed.push_back(word(state));
    throw Error{Code::invalid_state, fmt::format("{} is {} ({}); '{}' needs it {}", words(), word(view_.state),
                                                 view_.state_reason, verb, fmt::join(needed, " or "))};
}

void Machine::require_stored(std::string_view verb) const {
    if (!definition_)
        throw Error{
            Code::invalid_state,
            fmt::format("{} is transient: nothing of it is stored; '{}' needs a persistent domain", words(), verb)};
}

RunPtr Machine::require_guest(std::string_view verb) const {
    require_listed();
    if (!run_ || !run_->guest || run_->over())
        require_state({State::running, State::paused, State::pmsuspended, State::shutdown, State::crashed}, verb);
    if (!run_ || !run_->guest || run_->over())
        throw Error{Code::invalid_state,
                    fmt::format("{} is on its way up or down; '{}' needs it running", words(), verb)};
    return run_;
}

void Machine::require_startable() const {
    if (definition_ && !definition_->problem().empty())
        throw Error{Code::unsupported_configuration,
                    fmt::format("{} cannot be started, its definition {} is unusable: {}. Define it anew", words(),
                                definition_->path(), definition_->problem())};
    require_state({State::shutoff}, "start");
    if (run_ && !run_->unsettled.empty())
        throw Error{Code::invalid_state,
                    fmt::format("{} cannot be started: images of its last run were merged, and that cannot be put on "
                                "record ({}). Make room and try again",
                                words(), run_->unsettled)};
    if (run_)
        throw Error{Code::invalid_state,
                    fmt::format("{} is {} and its process is still there; 'start' needs it gone. Stop it", words(),
                                word(view_.state))};
}

// ---- texts
// -----------------------------------------------------------------------------------------------------------

std::string Machine::xml(XmlOptions options) const {
    const bool running = run_ && !run_->over();
    if (options.migratable && running) return render(run_->live, {.text = Text::stored, .secure = options.secure});
    if (running && !options.inactive) return run_->text(options.secure);
    if (definition_) return options.secure ? definition_->text() : definition_->public_text();
    if (running)
        return render(understand(run_->started_text, false).config, {.text = Text::stored, .secure = options.secure});
    throw Error{Code::invalid_state, fmt::format("{} is going; it has no definition any more", words())};
}

std::vector<std::string> Machine::unknown() const {
    if (run_ && !run_->over()) return run_->unknown;
    return definition_ ? definition_->unknown() : std::vector<std::string>{};
}

std::string Machine::metadata(std::string kind, std::string uri, ChangeScope scope) const {
    const bool running = run_ && !run_->over();
    const bool live = scope == ChangeScope::live || (scope != ChangeScope::persistent && running);
    if (live && !running) require_state({State::running, State::paused}, "live metadata");
    if (!live) require_stored("persistent metadata");
    return read_metadata(live ? run_->live : definition_->config(), kind, uri);
}

}  // namespace virtbus
