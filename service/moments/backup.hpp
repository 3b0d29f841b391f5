// SPDX-License-Identifier: LGPL-2.1-or-later
// BackupDesk: the Backups of one machine. The lane is held while a backup begins and while it ends, not while its bytes
// go: that may take hours.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "service/checkpoints.hpp"
#include "service/moments/backup_plan.hpp"
#include "service/moments/caller_place.hpp"
#include "service/run.hpp"
#include "virtbus/model/moments.hpp"

namespace virtbus {

class CheckpointBook;
class Machine;

class BackupDesk final : public Backups {
public:
    BackupDesk(Machine& machine, CheckpointBook& checkpoints);
    ~BackupDesk() override;

    // ---- Backups
    JobPtr begin(std::string xml, BackupOptions options, Caller caller) override;
    Task<> end(Caller caller) override;
    std::string xml() const override;

    bool active() const { return active_ != nullptr; }
    /// What an earlier daemon's backups have left: images that are not whole, and the checkpoint made with them. The
    /// lane must be held; never throws.
    Task<> clear_leftovers();

private:
    /// One backup from its beginning to its end.
    struct Active;
    using ActivePtr = std::shared_ptr<Active>;

    Task<> run_backup(JobPtr job, BackupConfig wanted, std::optional<CheckpointConfig> checkpoint,
                      BackupOptions options, Caller caller);
    Task<> begin_in_lane(ActivePtr backup, BackupConfig wanted, std::optional<CheckpointConfig> checkpoint);
    Task<> make_images(ActivePtr backup);
    Task<Fd> make_listener(ActivePtr backup);
    Task<> start_jobs(ActivePtr backup, Fd listener);
    Task<> serve(ActivePtr backup);
    Task<> clean_up(ActivePtr backup, bool succeeded);
    BitmapWork& work(const RunPtr& run) const;
    std::string default_socket() const;
    std::string note_path() const;
    void note_leftovers(const Active& backup) const;

    Machine& machine_;
    CheckpointBook& checkpoints_;
    ActivePtr active_;
};

}  // namespace virtbus
