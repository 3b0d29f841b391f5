// SPDX-License-Identifier: LGPL-2.1-or-later
// What is there, what is shown of it, and what the verbs share.
#include "service/moments/snapshots.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "service/domain_view.hpp"
#include "service/machine.hpp"
#include "service/moments/checkpoints.hpp"
#include "service/moments/looking.hpp"
#include "service/moments/snapshot_plan.hpp"
#include "service/parallel.hpp"
#include "service/xml/domain_xml.hpp"
#include "service/xml/moment_xml.hpp"

namespace virtbus {

SnapshotBook::SnapshotBook(Machine& machine)
    : machine_{machine}, shelf_{machine.context_.store, Kept::snapshots, machine.view_.uuid} {}

SnapshotBook::~SnapshotBook() = default;

// ---- what is there
// -------------------------------------------------------------------------------------------------------

const SnapshotView* SnapshotBook::find(std::string_view name) const {
    const auto found = views_.find(name);
    return found == views_.end() ? nullptr : &found->second;
}

const SnapshotView& SnapshotBook::get(std::string_view name) const {
    if (const auto* view = find(name)) return *view;
    throw Error{Code::no_such_snapshot, fmt::format("{} has no snapshot '{}'", machine_.words(), name)};
}

std::vector<const SnapshotView*> SnapshotBook::list() const {
    std::vector<const SnapshotView*> views;
    for (const auto* entry : index_.list()) views.push_back(&views_.find(entry->name)->second);
    return views;
}

Task<std::string> SnapshotBook::xml(std::string name, bool secure) {
    get(name);
    auto record = co_await read_record(index_.get(name));
    co_return xml::format_snapshot(record, secure);
}

/// As it was written; what may have changed since is the index's to tell.
Task<SnapshotConfig> SnapshotBook::read_record(MomentEntry entry) {
    auto record = xml::parse_snapshot(co_await shelf_.read_body(entry.id));
    record.name = entry.name;
    record.parent = entry.parent;
    co_return record;
}

void SnapshotBook::load() {
    index_ = shelf_.load();
    views_ = views_of(index_);
    machine_.view_.current_snapshot = index_.current();
}

void SnapshotBook::forget() {
    show(MomentIndex{});
}

bool SnapshotBook::uses(const std::string& path) const {
    return std::ranges::any_of(index_.list(), [&](const MomentEntry* entry) {
        return std::ranges::any_of(entry->disks, [&](const MomentDisk& disk) {
            return disk.place != SnapshotPlace::no && disk.frozen.path == path;
        });
    });
}

// ---- index, views, audience
// ----------------------------------------------------------------------------------------------

SnapshotBook::Views SnapshotBook::views_of(const MomentIndex& index) const {
    Views views;
    for (const auto* known : index.list()) {
        const auto& entry = *known;
        SnapshotView view;
        view.name = entry.name;
        view.description = entry.description;
        view.domain = machine_.view_.uuid;
        view.parent = entry.parent;
        view.current = index.current() == entry.name;
        view.state = entry.state;
        view.kind = entry.kind;
        view.creation_time = entry.creation_time;
        view.has_domain_xml = entry.has_domain;
        view.children = index.children(entry.name);
        views.emplace(entry.name, std::move(view));
    }
    return views;
}

Task<> SnapshotBook::save(MomentIndex next) {
    co_await shelf_.save(next);
    show(std::move(next));
}

/// New ones first, then what changed, then those that are gone.
void SnapshotBook::show(MomentIndex next) {
    index_ = std::move(next);
    const auto before = std::exchange(views_, views_of(index_));
    auto& audience = machine_.context_.audience;
    if (machine_.listed_) {
        for (const auto& [name, view] : views_)
            if (!before.contains(name)) audience.snapshot_added(machine_, view);
        for (const auto& [name, view] : views_)
            if (const auto was = before.find(name); was != before.end() && was->second != view)
                audience.snapshot_changed(machine_, was->second, view);
    }
    machine_.change([&](DomainView& view) { view.current_snapshot = index_.current(); });
    if (!machine_.listed_) return;
    for (const auto& [name, view] : before)
        if (!views_.contains(name)) audience.snapshot_removed(machine_.view_.uuid, view);
}

Task<> SnapshotBook::begin_pending(Pending note) {
    auto next = index_;
    next.pending = encode(note);
    co_await shelf_.save(next);
    index_ = std::move(next);
}

Task<> SnapshotBook::end_pending() {
    if (index_.pending.empty()) co_return;
    auto next = index_;
    next.pending.clear();
    co_await save(std::move(next));
}

Task<> SnapshotBook::recover() {
    if (index_.pending.empty()) co_return;
    try {
        auto note = decode_pending(index_.pending);
        switch (note.verb) {
            case Pending::Verb::create:
                co_await recover_creation(std::move(note));
                break;
            case Pending::Verb::remove:
                co_await recover_removal(std::move(note));
                break;
            case Pending::Verb::revert:
                co_await recover_reversion(std::move(note));
                break;
            case Pending::Verb::tidy:
                co_await tidy();
                break;
        }
    } catch (const std::exception& e) {
        machine_.log(Priority::error,
                     fmt::format("An interrupted verb on its snapshots could not be brought to an end: {}", e.what()));
    }
}

// ---- what the verbs share
// ------------------------------------------------------------------------------------------------

RunPtr SnapshotBook::running() const {
    const auto& run = machine_.run_;
    return run && run->guest && !run->over() ? run : nullptr;
}

DomainConfig SnapshotBook::current_config() const {
    if (const auto run = running()) return run->live;
    if (machine_.definition_) return machine_.definition_->config();
    throw Error{Code::invalid_state, fmt::format("{} is gone", machine_.words())};
}

Images& SnapshotBook::images_of(const DomainConfig& config) const {
    auto& driver = machine_.context_.drivers.get_by_type(config.type);
    if (auto* tool = driver.images()) return *tool;
    throw Error{Code::unsupported, fmt::format("the driver '{}' does nothing with images", driver.name())};
}

Images& SnapshotBook::images() const {
    if (!running() && !machine_.definition_) {
        auto* driver = machine_.context_.drivers.find_by_name(machine_.view_.driver);
        if (driver && driver->images()) return *driver->images();
    }
    return images_of(current_config());
}

DiskWork& SnapshotBook::disk_work(const RunPtr& run) const {
    if (auto* work = run->guest->disk_work()) return *work;
    throw Error{Code::unsupported,
                fmt::format("the driver '{}' makes no snapshots of running domains", run->driver->name())};
}

InternalSnapshot SnapshotBook::internal_of(const MomentEntry& entry, const DomainConfig& config) const {
    return {.tag = entry.name, .disks = targets(entry, SnapshotPlace::internal), .store = has_qcow2_store(config)};
}

std::optional<ImageFile> SnapshotBook::qcow2_store(const DomainConfig& config) const {
    const auto path = variable_store(config.os);
    if (path.empty()) return std::nullopt;
    const auto& said = config.os.nvram->format;
    if (said == "qcow2" || (said.empty() && path.ends_with(".qcow2"))) return ImageFile{path, "qcow2"};
    return std::nullopt;
}

bool SnapshotBook::has_qcow2_store(const DomainConfig& config) const {
    return qcow2_store(config).has_value();
}

/// The folder or file with the emulated TPM's state: where the definition puts it, else virtbus's own.
std::string SnapshotBook::tpm_state(const DomainConfig& config) const {
    for (const auto& tpm : config.devices.tpms)
        if (tpm.backend.type == "emulator" && tpm.backend.source && !tpm.backend.source->path.empty())
            return tpm.backend.source->path;
    return machine_.context_.store.path(Kept::tpm, machine_.view_.uuid);
}

bool SnapshotBook::has_stores(const DomainConfig& config) const {
    auto& store = machine_.context_.store;
    const auto variables = variable_store(config.os);
    return (!variables.empty() && store.exists(variables)) || store.exists(tpm_state(config));
}

Task<> SnapshotBook::keep_stores(MomentEntry& entry, const DomainConfig& config) {
    const auto variables = variable_store(config.os);
    auto& store = machine_.context_.store;
    if (!variables.empty() && store.exists(variables)) {
        co_await shelf_.keep_store(entry.id, variables);
        entry.store_kept = true;
    }
    if (const auto state = tpm_state(config); store.exists(state)) {
        co_await shelf_.keep_tpm(entry.id, state);
        entry.tpm_kept = true;
    }
}

Task<> SnapshotBook::bring_back_stores(MomentEntry entry, DomainConfig config, bool variables) {
    const auto path = variable_store(config.os);
    if (variables && entry.store_kept && !path.empty()) co_await shelf_.bring_store(entry.id, path);
    if (entry.tpm_kept) co_await shelf_.bring_tpm(entry.id, tpm_state(config));
}

namespace {
constexpr const char* undo_id = "undo";
}

Task<> SnapshotBook::keep_undo_stores(DomainConfig config) {
    MomentEntry kept;
    kept.id = undo_id;
    co_await keep_stores(kept, config);
}

Task<> SnapshotBook::bring_back_undo_stores(DomainConfig config) {
    MomentEntry kept;
    kept.id = undo_id;
    kept.store_kept = shelf_.has_store(undo_id);
    kept.tpm_kept = shelf_.has_tpm(undo_id);
    co_await bring_back_stores(std::move(kept), std::move(config), true);
}

Task<> SnapshotBook::drop_undo_stores() {
    co_await shelf_.remove(undo_id);
}

namespace {

Task<> collect(std::function<Task<>()> work, std::shared_ptr<std::exception_ptr> first) {
    try {
        co_await work();
    } catch (...) {
        if (!*first) *first = std::current_exception();
    }
}

}  // namespace

Task<> SnapshotBook::together(std::vector<std::function<Task<>()>> work) {
    const auto first = std::make_shared<std::exception_ptr>();
    const auto count = work.size();
    std::vector<std::function<Task<>()>> pieces;
    for (auto& piece : work) pieces.emplace_back([piece = std::move(piece), first] { return collect(piece, first); });
    co_await run_all(machine_.context_.ports.loop, machine_.context_.scope, std::move(pieces), count);
    if (*first) std::rethrow_exception(*first);
}

Task<> SnapshotBook::carry_bitmaps(Images& images, ImageFile overlay, ImageFile frozen, std::stop_token stop) {
    if (overlay.format != "qcow2" || frozen.format != "qcow2") co_return;
    const auto below = co_await images.examine(frozen, stop);
    if (below.bitmaps.empty()) co_return;
    const auto there = (co_await images.examine(overlay, stop)).bitmaps;
    for (const auto& bitmap : below.bitmaps)
        if (bitmap.recording && !bitmap.inconsistent &&
            std::ranges::count(there, bitmap.name, &ImageFacts::Bitmap::name) == 0)
            co_await images.add_bitmap(overlay, bitmap.name, bitmap.granularity, stop);
}

Task<> SnapshotBook::try_remove_file(std::string path) {
    try {
        co_await machine_.context_.ports.files.remove(path);
    } catch (const std::exception& e) {
        machine_.log(Priority::warning, fmt::format("{} is not needed any more and stays: {}", path, e.what()));
    }
}

Task<> SnapshotBook::change_stored(std::function<void(DomainConfig&)> change) {
    if (!machine_.definition_ || !machine_.definition_->problem().empty()) co_return;
    auto config = machine_.definition_->config();
    const auto before = config;
    change(config);
    if (config == before) co_return;
    const auto unknown = machine_.definition_->unknown();
    co_await machine_.store(std::move(config), unknown);
}

/// What the driver knows of the disks now is on record, too.
void SnapshotBook::settle_run(const RunPtr& run) {
    if (machine_.run_ == run && !run->over()) machine_.take_config(run->guest->config());
}

namespace {

bool any_top(const DomainConfig& config, const std::string& path) {
    return std::ranges::any_of(config.devices.disks, [&](const Disk& disk) {
        const auto top = top_image(disk);
        return top && top->path == path;
    });
}

}  // namespace

bool SnapshotBook::writes_to(const std::string& target, const std::string& path) const {
    const auto on = [&](const DomainConfig& config) {
        return std::ranges::any_of(config.devices.disks, [&](const Disk& disk) {
            const auto top = top_image(disk);
            return disk.target.dev == target && top && top->path == path;
        });
    };
    if (const auto run = running()) return on(run->live);
    return machine_.definition_ && machine_.definition_->problem().empty() && on(machine_.definition_->config());
}

bool SnapshotBook::is_top(const std::string& path) const {
    if (const auto run = running(); run && any_top(run->live, path)) return true;
    return machine_.definition_ && machine_.definition_->problem().empty() &&
           any_top(machine_.definition_->config(), path);
}

bool SnapshotBook::made_here(const std::string& path) const {
    return index_.made.contains(path);
}

Task<bool> SnapshotBook::is_there(std::string path) {
    co_return (co_await look_at(machine_.context_.ports.workers, std::move(path), {})).there;
}

bool SnapshotBook::newer_checkpoints(std::uint64_t than) const {
    return std::ranges::any_of(machine_.checkpoints().list(),
                               [&](const CheckpointView* view) { return view->creation_time > than; });
}

}  // namespace virtbus
