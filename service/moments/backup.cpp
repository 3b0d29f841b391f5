// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/backup.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "service/machine.hpp"
#include "service/moments/checkpoints.hpp"
#include "service/saved_file.hpp"
#include "service/xml/moment_xml.hpp"

namespace virtbus {

struct BackupDesk::Active {
    JobPtr job;
    RunPtr run;
    Caller caller;
    BackupOptions options;
    BackupPlan plan;
    std::optional<CheckpointBook::Making> checkpoint;  ///< made in the same moment
    std::vector<CallerPlace> places;                   ///< of the parts' images, in their order
    std::vector<bool> made;                            ///< those that are ours
    std::optional<CallerPlace> socket;
    bool listening = false;
    bool begun = false;  ///< the driver has something to end
    std::optional<Reply<>::Promise> done;
    bool ended_by_verb = false;
};

BackupDesk::BackupDesk(Machine& machine, CheckpointBook& checkpoints) : machine_{machine}, checkpoints_{checkpoints} {}
BackupDesk::~BackupDesk() = default;

BitmapWork& BackupDesk::work(const RunPtr& run) const {
    if (auto* work = run->guest->bitmap_work()) return *work;
    throw Error{Code::unsupported, fmt::format("the driver '{}' makes no backups", run->driver->name())};
}

JobPtr BackupDesk::begin(std::string text, BackupOptions options, Caller caller) {
    auto wanted = xml::parse_backup(text);
    std::optional<CheckpointConfig> checkpoint;
    if (!options.checkpoint.empty()) checkpoint = checkpoints_.understand(options.checkpoint, false);
    return machine_.begin(
        "backup", "domain.backup", caller, true,
        [this, wanted = std::move(wanted), checkpoint = std::move(checkpoint), options, caller](Machine&, JobPtr job) {
            return run_backup(std::move(job), wanted, checkpoint, options, caller);
        });
}

std::string BackupDesk::xml() const {
    if (!active_ || !active_->begun)
        throw Error{Code::invalid_state, fmt::format("{} has no backup under way", machine_.words())};
    return xml::format_backup(active_->plan.config, true);
}

Task<> BackupDesk::end(Caller) {
    const auto backup = active_;
    if (!backup || !backup->plan.pull || !backup->done)
        throw Error{Code::invalid_state, fmt::format("{} has no pull backup to end", machine_.words())};
    backup->ended_by_verb = true;
    backup->done->set();
    co_await machine_.context_.jobs.wait(backup->job, std::nullopt);
}

// ---- from its beginning to its end
// -------------------------------------------------------------------------------------------

Task<> BackupDesk::run_backup(JobPtr job, BackupConfig wanted, std::optional<CheckpointConfig> checkpoint,
                              BackupOptions options, Caller caller) {
    const auto self = machine_.shared_from_this();  // outlives the run of a transient domain
    const auto backup = std::make_shared<Active>();
    backup->job = job;
    backup->options = std::move(options);
    backup->caller = std::move(caller);
    std::exception_ptr error;
    try {
        co_await begin_in_lane(backup, std::move(wanted), std::move(checkpoint));
        if (backup->plan.pull) {
            co_await serve(backup);
        } else {
            job->phase("copying");
            co_await work(backup->run)
                .finish_backup([job](std::uint64_t done, std::uint64_t total) { job->progress(done, total); },
                               job->stop());
        }
    } catch (...) {
        error = std::current_exception();
    }
    if (active_ == backup) {
        job->phase("ending");
        co_await clean_up(backup, !error);
    }
    if (error && backup->run && backup->run->over() && !job->stop().stop_requested())
        throw Error{Code::hypervisor_failed,
                    fmt::format("the backup ended with {}, which is shut off now ({}); what was written of it is gone",
                                machine_.words(), backup->run->end->reason)};
    if (error) std::rethrow_exception(error);
}

Task<> BackupDesk::begin_in_lane(ActivePtr backup, BackupConfig wanted, std::optional<CheckpointConfig> checkpoint) {
    const auto hold = co_await machine_.lane_.enter(backup->job, Lane::Subject::guest);
    machine_.require_listed();
    const auto run = machine_.require_guest("backup");
    if (active_)
        throw Error{Code::busy, fmt::format("{} has a backup under way (job {}); there is one at a time",
                                            machine_.words(), active_->job->id())};
    (void)work(run);
    co_await checkpoints_.settle();
    co_await clear_leftovers();
    const auto& ports = machine_.context_.ports;
    const BackupSubject subject{.name = machine_.view_.name,
                                .config = run->live,
                                .checkpoints = checkpoints_.index(),
                                .suffix = checkpoint ? checkpoint->name : std::to_string(ports.clock.now() / 1'000'000),
                                .reuse_external = backup->options.reuse_external,
                                .socket = default_socket(),
                                .tcp = ports.system_mode};
    backup->plan = plan_backup(wanted, subject);
    if (checkpoint) backup->checkpoint = checkpoints_.plan(std::move(*checkpoint), run);
    auto recorded =
        backup->checkpoint ? CheckpointBook::targets_of(backup->checkpoint->entry) : std::vector<std::string>{};
    for (const auto& part : backup->plan.parts)
        if (!part.since.empty()) recorded.push_back(part.disk);
    co_await checkpoints_.require_recorded(run, std::move(recorded));
    backup->run = machine_.require_guest("backup");
    active_ = backup;
    backup->job->phase("preparing");
    co_await make_images(backup);
    auto listener = co_await make_listener(backup);
    co_await start_jobs(backup, std::move(listener));
}

namespace {

std::uint64_t size_of(const Stats& stats, const std::string& target) {
    for (unsigned i = 0;; ++i) {
        const auto name = stats.find(fmt::format("block.{}.name", i));
        if (name == stats.end()) break;
        if (name->second != StatValue{target}) continue;
        if (const auto size = stats.find(fmt::format("block.{}.capacity", i)); size != stats.end())
            if (const auto* bytes = std::get_if<std::uint64_t>(&size->second)) return *bytes;
    }
    throw Error{Code::hypervisor_failed, fmt::format("the size of disk '{}' is not known", target)};
}

}  // namespace

Task<> BackupDesk::make_images(ActivePtr backup) {
    auto& ports = machine_.context_.ports;
    auto* images = backup->run->driver->images();
    const auto rights = co_await rights_of_caller(ports, backup->caller.uid);
    const auto stats = co_await backup->run->guest->stats(backup->job->stop());
    for (auto& part : backup->plan.parts) {
        auto place = co_await CallerPlace::open(ports, part.image.path, rights);
        const bool there = place.exists();
        if (!part.image.block_device) part.image.path = place.path();
        const bool make = !backup->options.reuse_external && !(part.image.block_device && part.image.format == "raw");
        backup->places.push_back(std::move(place));
        backup->made.push_back(make && !part.image.block_device && !there);
        if (backup->plan.pull || !backup->options.reuse_external) note_leftovers(*backup);
        co_await backup->places.back().make(ports);
        if (!make) continue;
        if (!images)
            throw Error{Code::unsupported,
                        fmt::format("the driver '{}' makes no images; give 'reuse-external' and make them before",
                                    backup->run->driver->name())};
        co_await images->make_image(part.image, size_of(stats, part.disk), backup->job->stop());
        backup->made.back() = !part.image.block_device;
    }
}

Task<Fd> BackupDesk::make_listener(ActivePtr backup) {
    if (!backup->plan.pull) co_return Fd{};
    auto& ports = machine_.context_.ports;
    const auto& server = *backup->plan.config.server;
    if (server.transport == "tcp") co_return co_await listen_on_tcp(ports, server.name, server.port);
    const auto own = fmt::format("{}/backup", ports.folders.runtime);
    const bool ours = server.socket.starts_with(own + '/');
    auto rights = co_await rights_of_caller(ports, backup->caller.uid);
    if (ours) {
        ports.files.make_folder(own, 0711);
        backup->socket = co_await CallerPlace::open(ports, server.socket, std::nullopt);
        backup->socket->give_to(rights);
        backup->socket->remove();
    } else {
        backup->socket = co_await CallerPlace::open(ports, server.socket, std::move(rights));
    }
    auto listener = co_await backup->socket->listen(ports);
    backup->listening = true;
    co_return listener;
}

/// The moment of the backup, and with it of the checkpoint.
Task<> BackupDesk::start_jobs(ActivePtr backup, Fd listener) {
    const auto run = machine_.require_guest("backup");
    const auto& making = backup->checkpoint;
    auto& resources = *run->resources;
    // The driver may have to wait for clients of a backup before.
    constexpr Duration clients{30'000};
    resources.renew(in(machine_.context_.patience.verb + clients), backup->job->stop());
    BackupRequest request{backup->plan.pull, backup->plan.parts, {}, std::move(listener), resources};
    if (making) note_leftovers(*backup);
    if (making) request.bitmaps = checkpoints_.changes(*making);
    if (making) co_await checkpoints_.begin(*making);
    std::exception_ptr error;
    try {
        co_await work(run).begin_backup(std::move(request), backup->job->stop());
        backup->begun = true;
        if (making) co_await checkpoints_.commit(*making);
    } catch (...) {
        error = std::current_exception();
    }
    if (!error) co_return;
    if (making) co_await checkpoints_.recover();
    std::rethrow_exception(error);
}

/// Until somebody ends it, cancels it, or the guest ends.
Task<> BackupDesk::serve(ActivePtr backup) {
    Reply<> end{machine_.context_.ports.loop};
    backup->done = end.promise();
    backup->run->waiting_for_end.push_back(end.promise());
    if (backup->run->over()) end.promise().set();
    backup->job->phase("serving");
    co_await end.wait("the backup", std::nullopt, backup->job->stop());
    if (!backup->ended_by_verb) throw Error{Code::hypervisor_failed, fmt::format("{} has ended", machine_.words())};
}

Task<> BackupDesk::clean_up(ActivePtr backup, bool succeeded) {
    Lane::Hold hold;
    try {
        hold = co_await machine_.lane_.enter(nullptr, Lane::Subject::definition);
        if (backup->begun && !backup->run->over()) co_await work(backup->run).end_backup();
        if (backup->run->over()) co_await machine_.finish_run();
        // What it was to have is nowhere, so nobody may go on from its moment.
        if (!succeeded && backup->begun && backup->checkpoint)
            co_await checkpoints_.take_back(backup->checkpoint->entry.name);
    } catch (const std::exception& e) {
        machine_.log(Priority::warning, fmt::format("Ending its backup did not work: {}", e.what()));
    }
    if (backup->listening) backup->socket->remove();
    for (std::size_t i = 0; i < backup->places.size(); ++i)
        if (backup->made[i] && (backup->plan.pull || !succeeded)) backup->places[i].remove();
    machine_.context_.ports.files.remove_volatile(note_path());
    active_.reset();
}

// ---- what a daemon that died has left
// ----------------------------------------------------------------------------------------

std::string BackupDesk::default_socket() const {
    return fmt::format("{}/backup/{}.sock", machine_.context_.ports.folders.runtime, machine_.view_.uuid);
}

std::string BackupDesk::note_path() const {
    return fmt::format("{}/backup/{}.files", machine_.context_.ports.folders.runtime, machine_.view_.uuid);
}

/// Only names of files that the daemon's own rights have made: those of others are theirs to remove. The checkpoint
/// that stands for bytes that never came goes, too.
void BackupDesk::note_leftovers(const Active& backup) const {
    auto& ports = machine_.context_.ports;
    std::string text;
    for (std::size_t i = 0; i < backup.places.size(); ++i)
        if (backup.made[i] && !backup.places[i].is_foreign()) text += backup.plan.parts[i].image.path + '\n';
    if (backup.checkpoint) text += backup.checkpoint->entry.name + '\n';  // no path: it has no '/'
    if (text.empty()) return;
    ports.files.make_folder(ports.folders.runtime + "/backup", 0711);
    ports.files.write_volatile(note_path(), text, 0600);
}

Task<> BackupDesk::clear_leftovers() {
    constexpr std::size_t longest = 1U << 20;
    auto& files = machine_.context_.ports.files;
    try {
        files.remove_volatile(default_socket());
        const auto noted = files.read(note_path(), longest);
        if (!noted) co_return;
        std::string_view rest{*noted};
        for (auto end = rest.find('\n'); end != rest.npos; end = rest.find('\n')) {
            std::string line{rest.substr(0, end)};
            rest.remove_prefix(end + 1);
            if (line.starts_with('/'))
                files.remove_volatile(line);
            else
                co_await checkpoints_.take_back(std::move(line));
        }
        files.remove_volatile(note_path());
    } catch (const std::exception& e) {
        machine_.log(Priority::warning, fmt::format("Files of a backup that was interrupted stay: {}", e.what()));
    }
}

}  // namespace virtbus
