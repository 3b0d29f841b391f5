// SPDX-License-Identifier: LGPL-2.1-or-later
// CheckpointBook: the Checkpoints of one machine. It keeps index, views and audience in step, and bitmaps and records
// as one: each change of bitmaps is noted before it is made, so that a daemon that comes later can undo or finish it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "service/checkpoints.hpp"
#include "service/moments/index.hpp"
#include "service/moments/shelf.hpp"
#include "service/run.hpp"
#include "virtbus/disk_work.hpp"
#include "virtbus/model/domain.hpp"
#include "virtbus/model/moments.hpp"

namespace virtbus {

class Machine;

class CheckpointBook final : public Checkpoints {
public:
    explicit CheckpointBook(Machine& machine);
    ~CheckpointBook() override;

    // ---- Checkpoints
    const CheckpointView* find(std::string_view name) const override;
    const CheckpointView& get(std::string_view name) const override;
    std::vector<const CheckpointView*> list() const override;
    Task<std::string> xml(std::string name, CheckpointXmlOptions options) override;
    MomentJob create(std::string xml, CheckpointCreateOptions options, Caller caller) override;
    JobPtr remove(std::string name, MomentDeleteOptions options, Caller caller) override;

    // ---- for the machine
    /// Reads what is stored, without telling anybody.
    void load();
    std::size_t size() const { return index_.size(); }
    /// An earlier daemon, or a verb that failed half way, has left something to do.
    bool interrupted() const { return !index_.pending.empty(); }
    /// Finishes or undoes what an earlier daemon was doing. The lane must be held, the guest taken up. Never throws.
    Task<> recover();
    /// The disks have gone back to an earlier moment: checkpoints made after it do not know what changed since, and go.
    /// The lane must be held; never throws.
    Task<> drop_newer(std::uint64_t than);
    /// The records are gone: the audience is told, which must be before the machine goes.
    void forget();

    // ---- for backups; the lane must be held
    const MomentIndex& index() const { return index_; }
    struct Making {
        MomentEntry entry;
        CheckpointConfig record;
    };
    /// The XML as it was understood, with a name.
    CheckpointConfig understand(std::string xml, bool redefine) const;
    /// What it comes down to; the guards of creation.
    Making plan(CheckpointConfig wanted, const RunPtr& run) const;
    std::vector<BitmapChange> changes(const Making& making) const;
    /// CheckpointInconsistent unless all that was written to these disks since the current checkpoint is in its bitmap.
    Task<> require_recorded(RunPtr run, std::vector<std::string> targets) const;
    static std::vector<std::string> targets_of(const MomentEntry& entry);
    /// The record is written, and the note of what is about to be done.
    Task<> begin(Making making);
    /// The bitmaps are there.
    Task<> commit(Making making);
    /// The backup that was made with it has failed: what changed since belongs to the one before again. None of that
    /// name is no error; never throws.
    Task<> take_back(std::string name);
    /// What was left half done is brought to an end first. InvalidState when that cannot be.
    Task<> settle();

private:
    using Views = std::map<std::string, CheckpointView, std::less<>>;
    Task<> save(MomentIndex next);
    void show(MomentIndex next);
    Views views_of(const MomentIndex& index) const;
    RunPtr running() const;
    BitmapWork& bitmap_work(const RunPtr& run) const;

    Task<> do_create(JobPtr job, CheckpointConfig wanted, CheckpointCreateOptions options);
    Task<> change_bitmaps(JobPtr job, RunPtr run, Making making, bool quiesce);
    Task<> do_redefine(JobPtr job, CheckpointConfig wanted, CheckpointCreateOptions options);
    Task<MomentEntry> settle_redefinition(CheckpointConfig& wanted);
    Task<> require_bitmaps(MomentEntry entry);
    Task<> do_remove(JobPtr job, std::string name, MomentDeleteOptions options);
    Task<> remove_one(std::string name, bool metadata_only);
    /// Its bitmaps go, into those before it where there are such.
    /// `again`: a bitmap that is missing has been taken away before.
    /// What stays in images that the guest only reads is returned, for the ledger.
    Task<std::vector<std::string>> dissolve(MomentEntry entry, bool again);
    Task<std::vector<std::string>> dissolve_live(MomentEntry entry, RunPtr run, bool again);
    Task<> dissolve_stored(MomentEntry entry, bool again);
    std::string bitmap_before(const MomentEntry& entry, const std::string& target) const;
    void log_broken(const MomentEntry& entry, const std::string& target) const;
    Task<std::map<std::string, std::uint64_t>> sizes(std::string name);
    Task<> try_drop_body(std::string id);
    /// The ledger's word for a bitmap whose checkpoint is gone; a merge may bring it to the top again.
    static std::string left_bitmap(const MomentDisk& part) { return part.target + '/' + part.bitmap; }

    Machine& machine_;
    MomentShelf shelf_;
    MomentIndex index_;
    Views views_;
};

}  // namespace virtbus
