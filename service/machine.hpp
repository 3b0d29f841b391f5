// SPDX-License-Identifier: LGPL-2.1-or-later
// Machine: the Domain of domain.hpp. It holds the state, the definition and the run, keeps the view, the status file
// and the audience in step, and carries out the verbs in its lane. Which machines exist is machines.hpp's knowledge.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "service/context.hpp"
#include "service/definition.hpp"
#include "service/domain.hpp"
#include "service/lane.hpp"
#include "service/run.hpp"
#include "service/status.hpp"

namespace virtbus {

struct SavedFile;
struct SaveTarget;
class BackupDesk;
class CheckpointBook;
class SnapshotBook;

/// What a start restores instead of booting.
struct Incoming {
    std::shared_ptr<SavedFile> saved;
    bool running = true, managed = false, bypass_cache = false;
    std::exception_ptr not_resumed;  ///< it is restored, but its CPUs were not let go
};
using IncomingPtr = std::shared_ptr<Incoming>;

class Machine final : public Domain, public std::enable_shared_from_this<Machine>, private GuestEvents {
public:
    Machine(Context& context, std::string uuid, std::string name);
    ~Machine() override;

    // ---- Domain: what is answered at once
    const DomainView& view() const override { return view_; }
    std::string xml(XmlOptions options) const override;
    std::vector<std::string> unknown() const override;
    std::string metadata(std::string kind, std::string uri, ChangeScope scope) const override;

    // ---- Domain: verbs
    JobPtr start(StartOptions options, Caller caller) override;
    JobPtr stop(StopOptions options, Caller caller) override;
    JobPtr shutdown(ShutdownMode mode, Caller caller) override;
    JobPtr reboot(ShutdownMode mode, Caller caller) override;
    JobPtr reset(Caller caller) override;
    JobPtr suspend(Caller caller) override;
    JobPtr resume(Caller caller) override;
    JobPtr inject_nmi(Caller caller) override;
    JobPtr save(std::string file, SaveOptions options, Caller caller) override;
    JobPtr managed_save(SaveOptions options, Caller caller) override;
    JobPtr remove_managed_save(Caller caller) override;
    JobPtr set_autostart(bool autostart, Caller caller) override;
    JobPtr undefine(UndefineOptions options, Caller caller) override;
    JobPtr rename(std::string name, Caller caller) override;
    JobPtr set_metadata(std::string kind, std::string uri, std::string key, std::string value, ChangeScope scope,
                        Caller caller) override;
    JobPtr set_memory(std::uint64_t bytes, ChangeScope scope, bool maximum, Caller caller) override;
    JobPtr set_vcpus(std::uint32_t count, ChangeScope scope, bool maximum, Caller caller) override;
    JobPtr attach_device(std::string xml, ChangeScope scope, bool force, Caller caller) override;
    JobPtr detach_device(std::string xml, ChangeScope scope, bool force, Caller caller) override;
    JobPtr update_device(std::string xml, ChangeScope scope, bool force, Caller caller) override;

    Snapshots& snapshots() override;
    Checkpoints& checkpoints() override;
    Backups& backups() override;

    Task<TimedStats> stats(std::vector<std::string> groups) override;
    Task<> send_key(std::vector<std::string> keys) override;
    Task<Screenshot> screenshot(std::uint32_t screen) override;
    Task<Fd> open_console(std::string name, bool force) override;
    Task<Fd> open_display(std::string type) override;

    // ---- for the list of machines
    /// False while it is being made and once it is gone: nobody finds it.
    bool listed() const { return listed_; }
    Lane& lane() { return lane_; }
    bool active() const { return is_active(view_.state); }
    const Definition* definition() const { return definition_ ? &*definition_ : nullptr; }
    /// Takes what was found on disk, without telling anybody.
    void load(Definition definition, const DomainConfig* config, bool autostart, bool managed_save);
    void list_silently() { listed_ = true; }
    /// Stores the definition (the lane must be held); a machine that was being made becomes visible.
    Task<> store(DomainConfig config, std::vector<std::string> unknown);
    /// Becomes visible without a definition of its own, to be launched at once.
    void appear(const DomainConfig& config);
    /// Starts it (the lane must be held). A start that fails leaves no trace; a transient machine is then gone.
    Task<> launch(JobPtr job, DomainConfig config, std::vector<std::string> unknown, StartOptions options,
                  Caller caller, IncomingPtr incoming = nullptr);
    void require_startable() const;
    /// HasManagedSave: a run from elsewhere would leave the image with a memory that its disks have left behind.
    void require_no_managed_save(std::string_view verb) const;
    /// Takes up the run that an earlier daemon left; ends its errors. `config` and `unknown` are of its live
    /// definition.
    Task<> adopt(LiveStatus status, DomainConfig config, std::vector<std::string> unknown);
    /// Tells whoever makes links of those that its run has, to be put back where they belong. Ends its errors.
    Task<> reconnect_links();
    /// The variable store is its own: by its definition, its run, or by its UUID. `path` lies in the store's folder.
    bool has_store(const std::string& path) const;
    /// Its run has that device of the host.
    bool holds(const std::string& device) const { return run_ && run_->resources && run_->resources->holds(device); }
    /// One of its snapshots needs the image.
    bool has_frozen(const std::string& path) const;
    /// Finishes or undoes what an earlier daemon was doing with its snapshots.
    Task<> settle_moments();
    /// The jobs that concern it have changed.
    void refresh_jobs();

private:
    friend BackupDesk;
    friend CheckpointBook;
    friend SnapshotBook;

    // ---- GuestEvents
    void state_changed(State state, std::string reason) override;
    void ended(GuestEnd end) override;
    void rebooted() override;
    void config_changed(DomainConfig config) override;
    void responsive_changed(bool responsive) override;
    void device_added(std::string alias) override;
    void device_removed(std::string alias) override;
    void device_removal_failed(std::string alias) override;
    void io_error(std::string alias, std::string action, std::string reason) override;
    void watchdog_fired(std::string action) override;
    void agent_changed(bool connected) override;

    // ---- state, kept in step: the status file first, then the audience
    template <class Edit>
    void change(Edit edit);
    void tell(const DomainView& before);
    void set_state(State state, std::string reason);
    void save_status() const;
    void show_definition(DomainView& view, const DomainConfig& config) const;
    void show_run(DomainView& view) const;
    void show_stored(DomainView& view) const;
    bool live_differs() const;
    void take_config(DomainConfig config);
    void vanish();
    void vanish_if_gone();
    void load_moments();
    void log(Priority priority, const std::string& message) const;

    // ---- guards
    std::string words() const;  ///< "domain 'web'"
    void require_listed() const;
    void require_state(const std::vector<State>& allowed, std::string_view verb) const;
    void require_stored(std::string_view verb) const;
    RunPtr require_guest(std::string_view verb) const;

    // ---- the life of a run
    JobPtr begin(std::string operation, std::string action, Caller caller, bool publish_now,
                 std::function<Task<>(Machine&, JobPtr)> work);
    RunPtr new_run(HypervisorDriver* driver, DomainConfig config, std::vector<std::string> unknown);
    ResourceBroker::Setting broker_setting();
    Task<> do_start(JobPtr job, StartOptions options, Caller caller);
    Task<> record_store(std::string path);
    Task<> bring_up(JobPtr job, RunPtr run, StartOptions options, Deadline deadline, IncomingPtr incoming);
    Task<> give_up_start(RunPtr run, std::string reason);
    Task<> do_stop(JobPtr job, StopOptions options);
    RunPtr kill_guest(bool graceful);
    Task<> see_guest_end(Deadline deadline);
    Task<> wait_for_end(RunPtr run, Deadline deadline);
    void take_end(GuestEnd end);
    Task<> clean_up(JobPtr job);
    Task<> finish_run();
    Task<> clear_leftovers(RunPtr run);
    void die_with(const RunPtr& run, Caller caller);
    Task<std::unique_ptr<Guest>> find_guest(const RunPtr& run, LiveStatus status, GuestEnd& end);

    // ---- saving and restoring
    RunPtr require_savable(const std::string& verb, bool managed) const;
    Task<> do_save(JobPtr job, std::string file, SaveOptions options, Caller caller);
    Task<> write_image(JobPtr job, RunPtr run, SaveTarget& target);
    Task<> give_up_save(RunPtr run, NewFilePtr file, bool running);
    Task<> do_remove_managed_save(JobPtr job);
    Task<> drop_managed_save();
    Task<IncomingPtr> managed_incoming(const StartOptions& options);
    Task<> start_incoming(JobPtr job, RunPtr run, StartRequest request, Incoming& incoming);
    Task<> let_go(RunPtr run, Incoming& incoming, std::stop_token stop);
    Task<bool> was_committed(Saving saving);
    Task<> settle_save(RunPtr run);
    Task<> settle_restore(RunPtr run);
    Task<> remove_unfinished(Saving saving);

    // ---- verbs on the guest and on the definition
    struct GuestVerb {
        std::string operation, action;
        std::vector<State> allowed;
        std::function<Task<>(Guest&, std::stop_token)> act;
        std::optional<State> then;  ///< the state it is in when the guest has taken it
    };
    JobPtr begin_on_guest(GuestVerb verb, Caller caller);
    Task<> do_on_guest(JobPtr job, GuestVerb verb);
    using GuestAct = std::function<Task<>(Guest&, std::stop_token)>;
    struct Change {
        ChangeScope scope;
        enum class Live { impossible, description, guest } live;  ///< the guest: `act` does it, and tells of it
        std::string what;                                         ///< "memory"
        std::function<void(DomainConfig&)> apply;
        GuestAct act{};
    };
    struct Scopes {
        bool live = false, stored = false;
    };
    /// What the scope means now. InvalidState when that cannot be.
    Scopes scopes_of(ChangeScope scope, std::string_view what) const;
    JobPtr begin_change(std::string operation, Change change, Caller caller);
    Task<> do_change(JobPtr job, Change change);
    Task<> change_stored(const Change& change);
    void change_live(const Change& change);

    // ---- devices
    struct DeviceChange {
        enum class Verb { attach, detach, update } verb;
        std::string xml;
        ChangeScope scope;
        bool force;
    };
    /// What a device verb has worked out before its first change.
    struct DevicePlan;
    using DevicePlanPtr = std::shared_ptr<DevicePlan>;
    JobPtr begin_device(std::string operation, DeviceChange change, Caller caller);
    Task<> do_device(JobPtr job, DeviceChange change);
    Task<> plan_stored(DevicePlanPtr plan);
    Task<> plan_live(DevicePlanPtr plan);
    Task<> change_guest(JobPtr job, DevicePlanPtr plan);
    Task<> undo_guest(DevicePlanPtr plan);
    Task<> store_devices(DevicePlanPtr plan);
    Task<> reach_guest(JobPtr job, RunPtr run, std::string what, GuestAct act);
    static Task<> close_links(std::shared_ptr<Machine> self, RunPtr run, std::string alias);
    void follow_live(const DomainConfig& before, const DomainConfig& now);

    Task<> do_undefine(JobPtr job, UndefineOptions options);
    Task<> undefine_running(UndefineOptions options);
    Store::Undefining guard_undefine(const UndefineOptions& options) const;
    Task<> do_rename(JobPtr job, std::string name);
    Task<> do_set_autostart(JobPtr job, bool autostart);
    Stats own_stats() const;
    Task<bool> fresh_sample(RunPtr run);

    Context& context_;
    DomainView view_;
    Lane lane_;
    std::optional<Definition> definition_;
    RunPtr run_;
    bool listed_ = false;
    bool outlives_run_ = false;  ///< it is to run anew at once, transient or not
    std::unique_ptr<SnapshotBook> snapshots_;
    std::unique_ptr<CheckpointBook> checkpoints_;
    std::unique_ptr<BackupDesk> backups_;
};
using MachinePtr = std::shared_ptr<Machine>;

template <class Edit>
void Machine::change(Edit edit) {
    const auto before = view_;
    edit(view_);
    if (view_ != before) tell(before);
}

}  // namespace virtbus
