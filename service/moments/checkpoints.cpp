// SPDX-License-Identifier: LGPL-2.1-or-later
// What is there, what is shown of it, and making a checkpoint.
#include "service/moments/checkpoints.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "service/machine.hpp"
#include "service/moments/checkpoint_note.hpp"
#include "service/moments/checkpoint_plan.hpp"
#include "service/names.hpp"
#include "service/xml/domain_xml.hpp"
#include "service/xml/moment_xml.hpp"

namespace virtbus {

CheckpointBook::CheckpointBook(Machine& machine)
    : machine_{machine},
      shelf_{machine.context_.store, Kept::checkpoints, machine.view_.uuid},
      index_{MomentKind::checkpoint} {}

CheckpointBook::~CheckpointBook() = default;

// ---- what is there
// -----------------------------------------------------------------------------------------------------------

const CheckpointView* CheckpointBook::find(std::string_view name) const {
    const auto found = views_.find(name);
    return found == views_.end() ? nullptr : &found->second;
}

const CheckpointView& CheckpointBook::get(std::string_view name) const {
    if (const auto* view = find(name)) return *view;
    throw Error{Code::no_such_checkpoint,
                fmt::format("{} has no checkpoint '{}'", machine_.words(), printable(std::string{name}))};
}

std::vector<const CheckpointView*> CheckpointBook::list() const {
    std::vector<const CheckpointView*> views;
    for (const auto* entry : index_.list()) views.push_back(&views_.find(entry->name)->second);
    return views;
}

void CheckpointBook::load() {
    index_ = shelf_.load();
    views_ = views_of(index_);
}

void CheckpointBook::forget() {
    show(MomentIndex{MomentKind::checkpoint});
}

CheckpointBook::Views CheckpointBook::views_of(const MomentIndex& index) const {
    Views views;
    for (const auto* entry : index.list()) {
        CheckpointView view;
        view.name = entry->name;
        view.description = entry->description;
        view.domain = machine_.view_.uuid;
        view.parent = entry->parent;
        view.children = index.children(entry->name);
        view.current = index.current() == entry->name;
        view.state = entry->state;
        view.creation_time = entry->creation_time;
        view.has_domain_xml = entry->has_domain;
        views.emplace(entry->name, std::move(view));
    }
    return views;
}

Task<> CheckpointBook::save(MomentIndex next) {
    co_await shelf_.save(next);
    show(std::move(next));
}

/// New ones first, then what changed, then those that are gone.
void CheckpointBook::show(MomentIndex next) {
    index_ = std::move(next);
    const auto before = std::exchange(views_, views_of(index_));
    if (!machine_.listed_) return;
    auto& audience = machine_.context_.audience;
    for (const auto& [name, view] : views_)
        if (!before.contains(name)) audience.checkpoint_added(machine_, view);
    for (const auto& [name, view] : views_)
        if (const auto was = before.find(name); was != before.end() && was->second != view)
            audience.checkpoint_changed(machine_, was->second, view);
    for (const auto& [name, view] : before)
        if (!views_.contains(name)) audience.checkpoint_removed(machine_.view_.uuid, view);
}

RunPtr CheckpointBook::running() const {
    const auto& run = machine_.run_;
    return run && run->guest && !run->over() ? run : nullptr;
}

BitmapWork& CheckpointBook::bitmap_work(const RunPtr& run) const {
    if (auto* work = run->guest->bitmap_work()) return *work;
    throw Error{Code::unsupported,
                fmt::format("the driver '{}' keeps no bitmaps of running domains", run->driver->name())};
}

// ---- as XML
// ------------------------------------------------------------------------------------------------------------------

Task<std::string> CheckpointBook::xml(std::string name, CheckpointXmlOptions options) {
    get(name);
    const auto entry = index_.get(name);
    auto record = xml::parse_checkpoint(co_await shelf_.read_body(entry.id));
    record.name = entry.name;
    record.parent = entry.parent;
    if (options.no_domain) record.domain.clear();
    if (options.size)
        for (const auto& [target, size] : co_await sizes(name))
            for (auto& disk : record.disks)
                if (disk.name == target) disk.size = size;
    co_return xml::format_checkpoint(record, options.secure);
}

namespace {
constexpr const char* measuring = "virtbus-size";
}

/// The union of what has to be backed up is made in a bitmap of its own, looked at, and dropped.
Task<std::map<std::string, std::uint64_t>> CheckpointBook::sizes(std::string name) {
    const auto run = machine_.require_guest("the size of a checkpoint");
    auto& work = bitmap_work(run);
    co_await require_recorded(run, targets_of(index_.get(name)));
    std::vector<BitmapChange> make, drop;
    for (const auto& part : index_.get(name).disks) {
        drop.push_back({BitmapChange::Kind::remove, part.target, measuring, {}});
        make.push_back({BitmapChange::Kind::add, part.target, measuring, {}, false});
        make.push_back({BitmapChange::Kind::disable, part.target, measuring, {}});
        for (auto& bitmap : bitmaps_since(index_, name, part.target))
            make.push_back({BitmapChange::Kind::merge, part.target, measuring, std::move(bitmap), false});
    }
    // One that a daemon has left must go first: its name is taken as long as the step lasts that removes it.
    co_await work.change_bitmaps(drop, {});
    co_await work.change_bitmaps(std::move(make), {});
    std::map<std::string, std::uint64_t> found;
    for (const auto& fact : co_await work.bitmaps({}))
        if (fact.name == measuring) found[fact.disk] = fact.dirty;
    co_await work.change_bitmaps(std::move(drop), {});
    co_return found;
}

// ---- create
// ------------------------------------------------------------------------------------------------------------------

CheckpointConfig CheckpointBook::understand(std::string text, bool redefine) const {
    auto wanted = xml::parse_checkpoint(text);
    if (wanted.name.empty() && redefine)
        throw Error{Code::invalid_xml, "a checkpoint that is redefined needs its <name>"};
    if (wanted.name.empty()) {
        auto seconds = machine_.context_.ports.clock.now() / 1'000'000;
        while (find(std::to_string(seconds))) ++seconds;
        wanted.name = std::to_string(seconds);
    }
    xml::require_moment_name("checkpoint", wanted.name);
    if (wanted.name.starts_with("virtbus-"))
        throw Error{Code::invalid_xml, "names of checkpoints that begin with 'virtbus-' are kept for the service"};
    return wanted;
}

MomentJob CheckpointBook::create(std::string text, CheckpointCreateOptions options, Caller caller) {
    if (options.validate_bitmaps && !options.redefine)
        throw Error{Code::conflicting_options, "'validate-bitmaps' is for 'redefine'"};
    if (options.redefine && options.quiesce)
        throw Error{Code::conflicting_options, "'redefine' touches no disk, so there is nothing to 'quiesce'"};
    auto wanted = understand(std::move(text), options.redefine);
    auto name = wanted.name;
    auto job = machine_.begin("create-checkpoint", "domain.snapshot", std::move(caller), false,
                              [this, wanted = std::move(wanted), options](Machine&, JobPtr job) {
                                  return options.redefine ? do_redefine(std::move(job), wanted, options)
                                                          : do_create(std::move(job), wanted, options);
                              });
    return {std::move(name), std::move(job)};
}

CheckpointBook::Making CheckpointBook::plan(CheckpointConfig wanted, const RunPtr& run) const {
    if (find(wanted.name))
        throw Error{Code::already_exists,
                    fmt::format("{} has a checkpoint '{}' already; choose another name, or give 'redefine' to replace "
                                "its record",
                                machine_.words(), wanted.name)};
    Making making;
    auto& entry = making.entry;
    entry = plan_checkpoint(wanted, run->live, machine_.context_.ports.clock.now());
    entry.id = shelf_.new_id();
    entry.parent = index_.current();
    entry.state = word(machine_.view_.state);
    entry.has_domain = true;
    making.record = record_of(entry, wanted, run->live);
    making.record.domain = render(run->live, {.text = Text::stored, .secure = true});
    return making;
}

std::vector<std::string> CheckpointBook::targets_of(const MomentEntry& entry) {
    std::vector<std::string> targets;
    for (const auto& part : entry.disks) targets.push_back(part.target);
    return targets;
}

/// An overlay that was put on while the domain did not run has no bitmap, and a QEMU that was killed has not kept its.
Task<> CheckpointBook::require_recorded(RunPtr run, std::vector<std::string> targets) const {
    const auto facts = co_await bitmap_work(run).bitmaps({});
    for (const auto& target : targets) {
        const auto* latest = nearest(index_, index_.current(), target);
        const auto* disk = find_disk(run->live, target);
        const auto top = disk ? top_image(*disk) : std::nullopt;
        if (!latest || !top) continue;
        const auto& name = find_disk(*latest, target)->bitmap;
        bool recorded = false, broken = false;
        for (const auto& fact : facts) {
            if (fact.disk != target || fact.name != name) continue;
            broken = broken || fact.inconsistent;
            recorded = recorded || (fact.image == top->path && fact.recording);
        }
        if (recorded && !broken) continue;
        throw Error{
            Code::checkpoint_inconsistent,
            fmt::format("{}: not all that was written to disk '{}' since checkpoint '{}' was recorded{}. Delete "
                        "that checkpoint and those before it, and begin again with a full backup",
                        machine_.words(), target, latest->name,
                        broken ? ": its bitmap was not closed, since QEMU was killed or the host fell" : "")};
    }
}

std::vector<BitmapChange> CheckpointBook::changes(const Making& making) const {
    return changes_for(making.entry, index_);
}

Task<> CheckpointBook::begin(Making making) {
    std::vector<BitmapChange> stale;
    for (const auto& part : making.entry.disks)
        if (index_.made.contains(left_bitmap(part)))
            stale.push_back({BitmapChange::Kind::remove, part.target, part.bitmap, {}});
    if (const auto run = running(); run && !stale.empty())
        co_await bitmap_work(run).change_bitmaps(std::move(stale), {});
    co_await shelf_.write_body(making.entry.id, xml::format_checkpoint(making.record, true));
    auto next = index_;
    next.pending = encode(CheckpointNote{CheckpointNote::Verb::create, making.entry});
    co_await save(std::move(next));
}

Task<> CheckpointBook::commit(Making making) {
    auto next = index_;
    next.pending.clear();
    const auto name = making.entry.name;
    for (const auto& part : making.entry.disks) next.made.erase(left_bitmap(part));
    next.add(std::move(making.entry));
    next.set_current(name);
    co_await save(std::move(next));
}

Task<> CheckpointBook::settle() {
    co_await recover();
    if (interrupted())
        throw Error{Code::invalid_state,
                    fmt::format("{}: an interrupted change of its checkpoints is not at its end yet; the log tells why",
                                machine_.words())};
}

Task<> CheckpointBook::do_create(JobPtr job, CheckpointConfig wanted, CheckpointCreateOptions options) {
    const auto hold = co_await machine_.lane_.enter(job, Lane::Subject::guest);
    machine_.require_listed();
    const auto run = machine_.require_guest("create-checkpoint");
    co_await settle();
    auto making = plan(std::move(wanted), run);
    co_await require_recorded(run, targets_of(making.entry));
    co_await change_bitmaps(job, run, std::move(making), options.quiesce);
}

Task<> CheckpointBook::change_bitmaps(JobPtr job, RunPtr run, Making making, bool quiesce) {
    auto* agent = run->guest->agent();
    if (quiesce && !agent)
        throw Error{Code::agent_unavailable, fmt::format("{} has no guest agent to quiesce it", machine_.words())};
    std::exception_ptr error;
    if (quiesce) co_await agent->freeze(job->stop());
    bool begun = false;
    try {
        co_await begin(making);
        begun = true;
        machine_.require_guest("create-checkpoint");
        co_await bitmap_work(run).change_bitmaps(changes(making), job->stop());
        co_await commit(std::move(making));
    } catch (...) {
        error = std::current_exception();
    }
    if (quiesce && !run->over()) {
        try {
            co_await agent->thaw();
        } catch (const std::exception& e) {
            machine_.log(Priority::warning, fmt::format("Its file systems may still be frozen: {}", e.what()));
        }
    }
    if (!error) co_return;
    if (begun) co_await recover();
    std::rethrow_exception(error);
}

// ---- redefine
// ----------------------------------------------------------------------------------------------------------------

Task<> CheckpointBook::do_redefine(JobPtr job, CheckpointConfig wanted, CheckpointCreateOptions options) {
    const auto hold = co_await machine_.lane_.enter(job, Lane::Subject::definition);
    machine_.require_listed();
    if (options.validate_bitmaps) machine_.require_guest("validate-bitmaps");
    co_await settle();
    auto entry = co_await settle_redefinition(wanted);
    if (options.validate_bitmaps) co_await require_bitmaps(entry);
    co_await shelf_.write_body(entry.id, xml::format_checkpoint(wanted, true));
    auto next = index_;
    std::string replaced;
    if (const auto* old = next.find(entry.name)) {
        replaced = old->id;
        next.replace(entry);
    } else {
        // Records that come back in their order make the line whole again.
        const bool follows = entry.parent == next.current();
        next.add(entry);
        if (follows) next.set_current(entry.name);
    }
    co_await save(std::move(next));
    if (!replaced.empty()) co_await try_drop_body(replaced);
}

Task<MomentEntry> CheckpointBook::settle_redefinition(CheckpointConfig& wanted) {
    const auto refuse = [&](const std::string& why) {
        throw Error{Code::invalid_xml, fmt::format("checkpoint '{}' cannot be redefined: {}", wanted.name, why)};
    };
    if (!wanted.creation_time) refuse("<creationTime> is missing");
    if (wanted.domain.empty()) refuse("<domain> is missing; without it nobody knows which disks its bitmaps speak of");
    const auto config = virtbus::understand(wanted.domain, false).config;
    if (normal_uuid(config.uuid).value_or(config.uuid) != machine_.view_.uuid)
        refuse(fmt::format("its <domain> is {}, not {}", printable(config.uuid), machine_.view_.uuid));
    if (!wanted.parent.empty())
        if (const auto problem = index_.parent_problem(wanted.name, wanted.parent); !problem.empty()) refuse(problem);
    auto entry = plan_checkpoint(wanted, config, *wanted.creation_time * 1'000'000);
    entry.id = shelf_.new_id();
    entry.parent = wanted.parent;
    entry.has_domain = true;
    entry.state = word(State::running);
    if (const auto* old = index_.find(wanted.name)) {
        entry.state = old->state;
        const auto id = old->id;
        const auto before = xml::parse_checkpoint(co_await shelf_.read_body(id));
        const auto difference = xml::abi_difference(virtbus::understand(before.domain, false).config, config);
        if (difference)
            throw Error{Code::unsupported_configuration,
                        fmt::format("checkpoint '{}' cannot be redefined: its <domain> changes what the guest could "
                                    "see: {}",
                                    wanted.name, *difference)};
    }
    wanted = record_of(entry, wanted, config);
    co_return entry;
}

Task<> CheckpointBook::require_bitmaps(MomentEntry entry) {
    const auto run = machine_.require_guest("validate-bitmaps");
    const auto facts = co_await bitmap_work(run).bitmaps({});
    for (const auto& part : entry.disks) {
        bool found = false, broken = false;
        for (const auto& fact : facts)
            if (fact.disk == part.target && fact.name == part.bitmap && fact.persistent)
                (fact.inconsistent ? broken : found) = true;
        if (found && !broken) continue;
        throw Error{Code::checkpoint_inconsistent,
                    fmt::format("{}: disk '{}' has {} for checkpoint '{}'", machine_.words(), part.target,
                                broken ? fmt::format("a bitmap '{}' that was not closed (QEMU was killed, or the host "
                                                     "fell), so it tells nothing",
                                                     part.bitmap)
                                       : fmt::format("no bitmap '{}'", part.bitmap),
                                entry.name)};
    }
}

}  // namespace virtbus
