// SPDX-License-Identifier: LGPL-2.1-or-later
// GuestCore: one running QEMU - its process, its monitor, its state and live definition, and the events that change
// them. The verbs are in guest_verbs.cpp, bringing it up is starter.hpp's work.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "qemu/console.hpp"
#include "qemu/guest_record.hpp"
#include "qemu/helpers/helper_unit.hpp"
#include "qemu/lifecycle.hpp"
#include "qemu/monitor.hpp"
#include "virtbus/driver.hpp"

namespace virtbus::qemu {

struct Capabilities;
struct HelperPrograms;

/// How long things may take; tests shorten it.
struct GuestTimes {
    Duration patience{5000};   ///< a command unanswered for longer: the guest is not responsive
    Duration verb{10000};      ///< a verb unanswered for longer fails with Timeout
    Duration sample{2000};     ///< the same for statistics
    Duration adoption{2000};   ///< how long taking up a guest waits for its monitor
    Duration grace{10000};     ///< from SIGTERM to SIGKILL
    Duration write_back{500};  ///< the same when nobody asked for grace, but QEMU has something to write
    Duration bitmaps{5000};    ///< the same when it is bitmaps, for which it first waits until all data is on disk
    Duration reconnect{1000};  ///< until a lost monitor is tried again
    Duration unplug{5000};     ///< how long the guest has to let go of a device before the caller is told to wait
};

class GuestCore : public std::enable_shared_from_this<GuestCore> {
public:
    /// `scope` owns the tasks that nobody awaits and must outlive the guest.
    GuestCore(Ports& ports, Scope& scope, const GuestTimes& times, GuestEvents& events, DomainConfig config,
              GuestRecord record);
    GuestCore(const GuestCore&) = delete;
    GuestCore& operator=(const GuestCore&) = delete;

    Ports& ports;
    Scope& scope;
    const GuestTimes times;
    DomainConfig config;
    GuestRecord record;
    Lifecycle life;
    Unit unit;
    std::unique_ptr<Monitor> monitor;
    Consoles consoles;
    std::shared_ptr<const HelperPrograms> programs;  ///< where those are that it may need while it runs
    std::vector<std::shared_ptr<HelperUnit>> helpers;
    std::vector<Device> plugging;    ///< on their way into it: their helpers are needed already
    std::vector<Deadline> renewals;  ///< when a helper that had died was started again
    bool renewing = false;           ///< one is, just now
    std::multimap<std::string, Reply<>::Promise> departures;  ///< who waits for what to go; kept by Departure
    std::set<std::string> releasing;    ///< devices that are gone while what stood behind them is not yet
    Fd backup_door;                     ///< a second hold on what a backup's server listens at
    bool backup_server_stays = false;   ///< until the last who has connected to it and says nothing is gone
    std::optional<bool> keeps_bitmaps;  ///< in its images, which are written when these are closed; unset: not known

    std::string who() const;  ///< "domain 'web'"
    /// Timeout while there is no connection.
    Monitor& open_monitor() const;
    Deadline verb_deadline() const { return in(times.verb); }

    /// Connects to the listening socket and negotiates; the answers come later.
    void connect();
    void take_unit(Unit started);
    /// Its end is told to the owner unless it comes with QEMU's.
    void take_helper(std::shared_ptr<HelperUnit> helper);
    /// From the next turn of the loop on the owner is told what happens, what happened before included.
    void publish();
    /// Forgets the guest and leaves its process alone.
    void detach();

    /// A number for descriptors handed over, never used twice by this daemon nor by the command line.
    std::uint64_t next_fdset() { return ++last_fdset_; }

    void kill(bool graceful);
    bool is_gone() const noexcept { return gone_; }
    bool is_detached() const noexcept { return detached_; }
    /// Waits for the end of the process; false when it is still there at the deadline.
    Task<bool> wait_gone(Deadline deadline);

    /// Is kept when QEMU says something of its migration, or ends.
    void on_migration(Reply<>::Promise word) { waiting_for_migration_.push_back(std::move(word)); }

    /// Is kept when a job of QEMU changes its state, or QEMU ends.
    void on_job(Reply<>::Promise word) { waiting_for_job_.push_back(std::move(word)); }

    /// The monitor did not answer at adoption: not responsive until it does.
    void lost();
    void set_responsive(bool responsive);
    void apply(const Lifecycle::Step& step);
    std::string watchdog_action() const;

    // ---- what hotplug has done
    void tell_config() { config_changed(); }
    void tell_added(const std::string& alias);
    void tell_removed(const std::string& alias);
    void tell_trouble(const std::string& alias, const std::string& reason);
    /// Wakes whoever waits for it.
    void departed(const std::string& name);

    /// The last line of this run's log; empty when it said nothing. Blocks: for workers.
    static std::string last_words(const std::string& log, std::uint64_t start);

private:
    using Event = std::function<void(GuestEvents&)>;
    using Handler = void (GuestCore::*)(const nlohmann::json&);

    void emit(Event event);
    void config_changed();
    void on_event(std::string_view name, const nlohmann::json& data);
    void on_balloon(const nlohmann::json& data);
    void on_clock(const nlohmann::json& data);
    void on_io_error(const nlohmann::json& data);
    void on_watchdog(const nlohmann::json& data);
    void on_device_deleted(const nlohmann::json& data);
    void on_unplug_error(const nlohmann::json& data);
    void on_port(const nlohmann::json& data);
    void on_tray(const nlohmann::json& data);
    void on_migration_news(const nlohmann::json& data);
    void on_job_news(const nlohmann::json& data);
    void on_resume(const nlohmann::json& data);
    void end_process(bool graceful);
    Duration time_to_write() const;
    void monitor_ended(const Error& why);
    void process_gone();

    static Task<> restart(std::shared_ptr<GuestCore> core);
    static Task<> ask_status(std::shared_ptr<GuestCore> core);
    static Task<> reconnect(std::shared_ptr<GuestCore> core, std::string why);
    static Task<> finish(std::shared_ptr<GuestCore> core);
    static Task<> name_io_error(std::shared_ptr<GuestCore> core, std::string node, std::string action,
                                std::string reason);

    GuestEvents* events_;
    std::uint64_t last_fdset_ = 1000000;
    std::vector<Event> early_;
    std::vector<Reply<>::Promise> waiting_for_end_, waiting_for_migration_, waiting_for_job_;
    Registration pidfd_watch_, kill_timer_;
    bool published_ = false, gone_ = false, responsive_ = true, reconnecting_ = false, detached_ = false;
};

/// What the emulator of a definition can do; asked for when a device is plugged.
using CapabilitiesOf = std::function<Task<std::shared_ptr<const Capabilities>>(const DomainConfig&)>;

/// Wraps a core that is up.
std::unique_ptr<Guest> make_guest(std::shared_ptr<GuestCore> core, CapabilitiesOf capabilities);

}  // namespace virtbus::qemu
