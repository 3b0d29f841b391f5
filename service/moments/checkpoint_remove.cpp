// SPDX-License-Identifier: LGPL-2.1-or-later
// Removing checkpoints, and what an earlier daemon left half done: both take bitmaps away without losing what they
// have.
#include <fmt/format.h>

#include <algorithm>

#include "service/machine.hpp"
#include "service/moments/checkpoint_note.hpp"
#include "service/moments/checkpoint_plan.hpp"
#include "service/moments/checkpoints.hpp"
#include "service/volumes.hpp"

namespace virtbus {

using Kind = BitmapChange::Kind;

JobPtr CheckpointBook::remove(std::string name, MomentDeleteOptions options, Caller caller) {
    if (options.children && options.children_only)
        throw Error{Code::conflicting_options, "'children' and 'children-only' exclude each other; give one of them"};
    get(name);
    return machine_.begin("delete-checkpoint", "domain.snapshot", std::move(caller), true,
                          [this, name = std::move(name), options](Machine&, JobPtr job) {
                              return do_remove(std::move(job), name, options);
                          });
}

Task<> CheckpointBook::do_remove(JobPtr job, std::string name, MomentDeleteOptions options) {
    const auto hold = co_await machine_.lane_.enter(job, Lane::Subject::guest);
    machine_.require_listed();
    co_await machine_.finish_run();
    if (!options.metadata_only) co_await settle();
    get(name);
    std::vector<std::string> names{name};
    if (options.children || options.children_only) names = index_.leaves_first(name);
    if (options.children_only) std::erase(names, name);
    std::size_t done = 0;
    for (const auto& each : names) {
        co_await remove_one(each, options.metadata_only);
        job->progress(++done, names.size());
    }
}

Task<> CheckpointBook::remove_one(std::string name, bool metadata_only) {
    const auto entry = index_.get(name);
    std::vector<std::string> left;
    if (!metadata_only) {
        auto next = index_;
        next.pending = encode(CheckpointNote{CheckpointNote::Verb::remove, entry});
        co_await save(std::move(next));
        std::exception_ptr error;
        bool untouched = false;
        try {
            left = co_await dissolve(entry, false);
        } catch (const Error& e) {
            error = std::current_exception();
            untouched = e.code() == Code::unsupported || e.code() == Code::device_in_use;
        }
        if (error && untouched) {
            auto back = index_;
            back.pending.clear();
            co_await save(std::move(back));
        }
        // Else the note stays: the next verb, or the next daemon, goes on with it.
        if (error) std::rethrow_exception(error);
    }
    auto next = index_;
    if (!metadata_only) next.pending.clear();
    next.made.insert(left.begin(), left.end());
    next.remove(name);
    co_await save(std::move(next));
    co_await try_drop_body(entry.id);
}

Task<> CheckpointBook::try_drop_body(std::string id) {
    try {
        co_await shelf_.remove(id);
    } catch (const std::exception& e) {
        machine_.log(Priority::warning, fmt::format("The record of a checkpoint that is gone stays: {}", e.what()));
    }
}

Task<> CheckpointBook::recover() {
    if (index_.pending.empty()) co_return;
    try {
        const auto note = decode_checkpoint_note(index_.pending);
        const auto left = co_await dissolve(note.entry, true);
        auto next = index_;
        next.pending.clear();
        next.made.insert(left.begin(), left.end());
        std::string id;
        if (const auto* entry = next.find(note.entry.name); entry && note.verb == CheckpointNote::Verb::remove) {
            id = entry->id;
            next.remove(note.entry.name);
        }
        co_await save(std::move(next));
        if (!id.empty()) co_await try_drop_body(id);
    } catch (const std::exception& e) {
        machine_.log(
            Priority::error,
            fmt::format("An interrupted change of its checkpoints could not be brought to an end: {}", e.what()));
    }
}

Task<> CheckpointBook::drop_newer(std::uint64_t than) {
    std::vector<std::string> names;
    for (const auto* entry : index_.list())
        if (entry->creation_time > than) names.insert(names.begin(), entry->name);
    for (const auto& name : names) {
        try {
            if (find(name)) co_await remove_one(name, false);
        } catch (const std::exception& e) {
            machine_.log(
                Priority::warning,
                fmt::format("Checkpoint '{}' is newer than what its disks are now and stays: {}", name, e.what()));
        }
    }
}

Task<> CheckpointBook::take_back(std::string name) {
    if (!find(name)) co_return;
    try {
        co_await remove_one(name, false);
    } catch (const std::exception& e) {
        machine_.log(Priority::warning,
                     fmt::format("Checkpoint '{}' belongs to a backup that failed and stays: {}", name, e.what()));
    }
}

// ---- bitmaps
// -----------------------------------------------------------------------------------------------------------------

Task<std::vector<std::string>> CheckpointBook::dissolve(MomentEntry entry, bool again) {
    if (const auto run = running()) co_return co_await dissolve_live(std::move(entry), run, again);
    co_await dissolve_stored(std::move(entry), again);
    co_return std::vector<std::string>{};
}

/// The bitmap that takes up what the entry's has; "" = nobody asks for it.
std::string CheckpointBook::bitmap_before(const MomentEntry& entry, const std::string& target) const {
    const auto* before = nearest(index_, entry.parent, target);
    return before ? find_disk(*before, target)->bitmap : std::string{};
}

void CheckpointBook::log_broken(const MomentEntry& entry, const std::string& target) const {
    machine_.log(Priority::warning,
                 fmt::format("What disk '{}' has changed since checkpoint '{}' is not known any more; the checkpoints "
                             "before it cannot serve for incremental backups of that disk",
                             target, entry.name));
}

namespace {

bool is_top(const DomainConfig& config, const std::string& target, const std::string& image) {
    const auto* disk = find_disk(config, target);
    const auto top = disk ? top_image(*disk) : std::nullopt;
    return top && top->path == image;
}

}  // namespace

Task<std::vector<std::string>> CheckpointBook::dissolve_live(MomentEntry entry, RunPtr run, bool again) {
    auto& work = bitmap_work(run);
    const auto facts = co_await work.bitmaps({});
    std::vector<BitmapChange> changes;
    std::vector<std::string> left;
    for (const auto& part : entry.disks) {
        bool there = false, recording = false, broken = false;
        bool before_there = false, before_broken = false, before_records = false;
        const auto before = bitmap_before(entry, part.target);
        for (const auto& fact : facts) {
            if (fact.disk != part.target) continue;
            if (fact.name == part.bitmap) {
                there = true;
                recording = recording || fact.recording;
                broken = broken || fact.inconsistent;
                if (!is_top(run->live, part.target, fact.image)) left.push_back(left_bitmap(part));
            }
            if (!before.empty() && fact.name == before) {
                before_there = true;
                before_broken = before_broken || fact.inconsistent;
                before_records = before_records || (fact.recording && is_top(run->live, part.target, fact.image));
            }
        }
        if (!there && (again || before_records)) continue;  // the one before has it all, or has never stopped
        if ((broken || !there) && before_there) {
            log_broken(entry, part.target);
            changes.push_back({Kind::remove, part.target, before, {}});
        } else if (before_there && !before_broken) {
            changes.push_back({Kind::merge, part.target, before, part.bitmap});
            if (recording) changes.push_back({Kind::enable, part.target, before, {}});
        }
        changes.push_back({Kind::remove, part.target, part.bitmap, {}});
    }
    co_await work.change_bitmaps(std::move(changes), {});
    co_return left;
}

namespace {

const ImageFacts::Bitmap* find_bitmap(const ImageFacts& facts, const std::string& name) {
    const auto found = std::ranges::find(facts.bitmaps, name, &ImageFacts::Bitmap::name);
    return found == facts.bitmaps.end() ? nullptr : &*found;
}

struct Level {
    ImageFile image;
    ImageFacts facts;
};

Task<std::vector<Level>> levels_of(Images& images, ImageFile top) {
    constexpr std::size_t deepest = 200;
    std::vector<Level> levels;
    std::optional<ImageFile> next = std::move(top);
    while (next && levels.size() < deepest) {
        auto facts = co_await images.examine(*next, {});
        levels.push_back({*next, facts});
        next = facts.backing;
    }
    co_return levels;
}

/// One image: what `name` has goes into `before`, which is made where only other images of the disk have it.
Task<> dissolve_in(Images& images, Level level, std::string name, std::string before, bool keep) {
    const auto* own = find_bitmap(level.facts, name);
    if (!own) co_return;
    const bool recording = own->recording;
    const auto granularity = own->granularity;
    if (keep) {
        if (!find_bitmap(level.facts, before)) {
            co_await images.add_bitmap(level.image, before, granularity, {});
            co_await images.set_recording(level.image, before, false, {});
        }
        co_await images.merge_bitmap(level.image, before, name, {});
        if (recording) co_await images.set_recording(level.image, before, true, {});
    }
    co_await images.remove_bitmap(level.image, name, {});
}

}  // namespace

Task<> CheckpointBook::dissolve_stored(MomentEntry entry, bool again) {
    if (!machine_.definition_) co_return;
    auto config = machine_.definition_->config();
    Volumes volumes{machine_.context_};
    co_await volumes.resolve(config, in(machine_.context_.patience.verb));
    auto* images = machine_.context_.drivers.get_by_type(config.type).images();
    if (!images)
        throw Error{Code::unsupported, fmt::format("{}: its driver does nothing with the images of domains that do "
                                                   "not run; 'metadata-only' forgets the record",
                                                   machine_.words())};
    for (const auto& part : entry.disks) {
        const auto* disk = find_disk(config, part.target);
        const auto top = disk ? top_image(*disk) : std::nullopt;
        if (!top || top->format != "qcow2") continue;
        const auto levels = co_await levels_of(*images, *top);
        const auto before = bitmap_before(entry, part.target);
        bool there = false, before_there = false, broken = false, before_broken = false, before_records = false;
        for (const auto& level : levels) {
            if (const auto* bitmap = find_bitmap(level.facts, part.bitmap)) {
                there = true;
                broken = broken || bitmap->inconsistent;
            }
            if (const auto* bitmap = before.empty() ? nullptr : find_bitmap(level.facts, before)) {
                before_there = true;
                before_broken = before_broken || bitmap->inconsistent;
                before_records = before_records || (bitmap->recording && level.image == levels.front().image);
            }
        }
        if (!there && (again || before_records)) continue;
        if ((broken || !there) && before_there) {
            log_broken(entry, part.target);
            for (const auto& level : levels)
                if (find_bitmap(level.facts, before)) co_await images->remove_bitmap(level.image, before, {});
        }
        const bool keep = before_there && !broken && !before_broken;
        for (const auto& level : levels) co_await dissolve_in(*images, level, part.bitmap, before, keep);
    }
}

}  // namespace virtbus
