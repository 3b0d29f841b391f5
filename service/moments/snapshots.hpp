// SPDX-License-Identifier: LGPL-2.1-or-later
// SnapshotBook: the Snapshots of one machine. It keeps index, views and audience in step, and carries out the verbs in
// the machine's lane, each with a note of what is under way, so that a daemon that comes later finishes or undoes it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "service/moments/index.hpp"
#include "service/moments/other_users.hpp"
#include "service/moments/pending.hpp"
#include "service/moments/shelf.hpp"
#include "service/moments/transfer.hpp"
#include "service/run.hpp"
#include "service/snapshots.hpp"
#include "virtbus/disk_work.hpp"
#include "virtbus/model/domain.hpp"
#include "virtbus/model/moments.hpp"

namespace virtbus {

class ChainGraph;
class Machine;

class SnapshotBook final : public Snapshots {
public:
    explicit SnapshotBook(Machine& machine);
    ~SnapshotBook() override;

    // ---- Snapshots
    const SnapshotView* find(std::string_view name) const override;
    const SnapshotView& get(std::string_view name) const override;
    std::vector<const SnapshotView*> list() const override;
    Task<std::string> xml(std::string name, bool secure) override;
    MomentJob create(std::string xml, SnapshotCreateOptions options, Caller caller) override;
    JobPtr revert(std::string name, RevertOptions options, Caller caller) override;
    JobPtr remove(std::string name, MomentDeleteOptions options, Caller caller) override;
    Task<std::string> export_all() override;
    Task<std::vector<std::string>> import_all(std::string document, Caller caller) override;

    // ---- for the machine
    /// Reads what is stored, without telling anybody.
    void load();
    std::size_t size() const { return index_.size(); }
    /// An earlier daemon, or a verb that failed half way, has left something to do.
    bool interrupted() const { return !index_.pending.empty(); }
    /// Finishes or undoes what an earlier daemon was doing. The lane must be held, the guest taken up. Never throws.
    Task<> recover();
    /// The run is over, which may have merged images that could not be put on record then: it is done now. Throws when
    /// it still cannot be; the run must then be kept, as only it knows what its disks are.
    Task<> settle_end(RunPtr run);
    /// The records are gone: the audience is told, which must be before the machine goes.
    void forget();
    /// One of the snapshots has the image frozen or as its overlay.
    bool uses(const std::string& path) const;

private:
    struct Creation;
    struct Removal;
    struct Reversion;

    // ---- index, views, audience
    using Views = std::map<std::string, SnapshotView, std::less<>>;
    Task<> save(MomentIndex next);
    void show(MomentIndex next);
    Views views_of(const MomentIndex& index) const;
    Task<> begin_pending(Pending note);
    Task<> end_pending();

    // ---- what the verbs share
    RunPtr running() const;
    DomainConfig current_config() const;
    Images& images() const;
    Images& images_of(const DomainConfig& config) const;
    DiskWork& disk_work(const RunPtr& run) const;
    InternalSnapshot internal_of(const MomentEntry& entry, const DomainConfig& config) const;
    Task<SnapshotConfig> read_record(MomentEntry entry);
    std::optional<ImageFile> qcow2_store(const DomainConfig& config) const;
    bool has_qcow2_store(const DomainConfig& config) const;
    std::string tpm_state(const DomainConfig& config) const;
    bool has_stores(const DomainConfig& config) const;
    Task<> keep_stores(MomentEntry& entry, const DomainConfig& config);
    Task<> bring_back_stores(MomentEntry entry, DomainConfig config, bool variables);
    Task<> keep_undo_stores(DomainConfig config);
    Task<> bring_back_undo_stores(DomainConfig config);
    Task<> drop_undo_stores();
    /// Runs the work side by side and throws the first error when all have ended.
    Task<> together(std::vector<std::function<Task<>()>> work);
    Task<> try_remove_file(std::string path);
    Task<> change_stored(std::function<void(DomainConfig&)> change);
    void settle_run(const RunPtr& run);
    bool writes_to(const std::string& target, const std::string& path) const;
    /// A disk writes to it now, or will at the next start.
    bool is_top(const std::string& path) const;
    bool made_here(const std::string& path) const;
    Task<bool> is_there(std::string path);
    bool newer_checkpoints(std::uint64_t than) const;
    Task<> learn_chains(ChainGraph& graph, std::stop_token stop);

    // ---- create
    Task<> do_create(JobPtr job, SnapshotConfig wanted, std::string name, SnapshotCreateOptions options, Caller caller);
    Pending note_of(const Creation& creation) const;
    Task<> require_overlays_free(const Creation& creation);
    Task<> take_inactive(Creation& creation);
    Task<> take_running(Creation& creation);
    Task<> take_outside(Creation& creation);
    Task<> take_memory(Creation& creation);
    Task<> write_body(const Creation& creation);
    Task<> make_overlays(Creation& creation);
    /// Of images that nobody uses: the bitmaps that record in what was frozen record on in the overlay.
    static Task<> carry_bitmaps(Images& images, ImageFile overlay, ImageFile frozen, std::stop_token stop);
    Task<> freeze(Creation& creation);
    Task<> thaw(RunPtr run);
    Task<> let_run(RunPtr run, bool saved);
    Task<> record_creation(Pending note);
    Task<> undo_creation(Pending note, std::vector<std::string> made);
    Task<> recover_creation(Pending note);
    Task<> drop_memory(MomentEntry& entry);

    // ---- redefine
    Task<> do_redefine(JobPtr job, SnapshotConfig wanted, SnapshotCreateOptions options);
    Task<> do_import(JobPtr job, std::string document, std::shared_ptr<std::vector<std::string>> names);
    Task<std::map<std::string, Replaced>> replaced(std::vector<std::string> names);
    Task<> take_over(MomentIndex next, std::vector<SnapshotImport::Part> parts);

    // ---- remove
    Task<> do_remove(JobPtr job, std::string name, MomentDeleteOptions options);
    Task<> remove_one(JobPtr job, std::string name);
    Task<> remove_tags(MomentEntry entry, RunPtr run, std::stop_token stop);
    Task<> guard_tags(JobPtr job, MomentEntry entry);
    Task<> mend_images(MomentEntry entry, std::stop_token stop);
    Task<> give_up_holders(JobPtr job, MomentEntry entry);
    Task<> remove_external(JobPtr job, const MomentEntry& entry);
    bool is_half_merged(const MomentEntry& entry) const;
    Task<> note_earlier_merges(Removal& removal, MomentEntry entry);
    Task<> remove_external_rest(Removal& removal, MomentEntry entry);
    Task<> forget_entries(std::vector<std::string> names);
    /// Removes what the note says that nobody needs any more, then the note.
    Task<> tidy();
    std::vector<std::string> leftovers(MomentIndex& next) const;
    const MomentEntry* freezer_of(const std::string& path, const std::string& but) const;
    Task<std::optional<ImageUse>> use_by_others(std::vector<ImageFile> images, std::stop_token stop);
    bool keeps_frozen(const Removal& removal, const std::string& path) const;
    Task<> guard_merge(Removal& removal, const MomentDisk& part);
    Task<> dissolve(Removal& removal, MomentDisk part);
    Task<> commit(Removal& removal, MomentDisk part, ImageFile overlay);
    Task<> settle_commit(Removal& removal, MomentDisk part, ImageFile overlay, std::map<std::string, ImageFile> moved,
                         ImageFile gone);
    Task<> pull(Removal& removal, MomentDisk part, ImageFile overlay);
    Task<> merge_online(Removal& removal, ChainMerge merge);
    std::string disk_on(const std::string& path, const ChainGraph& graph) const;
    Task<> note_merged(std::string name, std::string target, std::map<std::string, ImageFile> moved, ImageFile gone);
    Task<> note_dissolved(std::string name, std::string target, std::map<std::string, ImageFile> moved, ImageFile gone);
    Task<> rename_in_bodies(std::map<std::string, ImageFile> moved);
    Task<> recover_removal(Pending note);

    // ---- revert
    Task<> do_revert(JobPtr job, std::string name, RevertOptions options, Caller caller);
    void settle_definitions(Reversion& it) const;
    Task<> guard_revert(Reversion& it);
    Task<> guard_inside(Reversion& it);
    Task<> revert_internal(Reversion& it);
    Task<> make_safe(Reversion& it, const Pending& note);
    Task<> load_into_guest(Reversion& it);
    Task<> apply_to_images(Reversion& it);
    Task<> drop_safety(const Pending& note);
    Task<> undo_reversion(Pending note);
    Task<> revert_external(Reversion& it);
    Task<ImageFile> fresh_overlay(MomentDisk part);
    Task<> require_no_bitmaps(Reversion& it);
    Task<> stop_run();
    Task<> store_reverted(Reversion& it);
    Task<> end_reversion(Reversion& it, std::vector<MomentDisk> fresh, std::string tag);
    bool writes_to_all_of(const MomentEntry& entry) const;
    Task<> start_reverted(Reversion& it);
    Task<> recover_reversion(Pending note);

    Machine& machine_;
    MomentShelf shelf_;
    MomentIndex index_;
    std::map<std::string, SnapshotView, std::less<>> views_;
};

}  // namespace virtbus
