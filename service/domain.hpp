// SPDX-License-Identifier: LGPL-2.1-or-later
// One domain: its definitions, its state machine, its guest while it runs, and the verbs that act on it. Verbs run as
// jobs in the domain's lane; reads answer from what is held here. Which domains exist is domains.hpp's knowledge, how a
// guest runs the driver's, what a verb is called on the bus the face's.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "service/checkpoints.hpp"
#include "service/jobs.hpp"
#include "service/snapshots.hpp"
#include "service/views.hpp"
#include "virtbus/caller.hpp"
#include "virtbus/driver.hpp"
#include "virtbus/fd.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

struct StartOptions {
    bool paused = false, autodestroy = false, bypass_cache = false, force_boot = false, reset_nvram = false;
};
struct StopOptions {
    bool graceful = false;
};
struct SaveOptions {
    std::string xml;  ///< a definition to restore with instead of the running one; "" = that
    bool running = false, paused = false, bypass_cache = false;
    std::string compression;  ///< "none", "zstd"; "" = none
};
struct UndefineOptions {
    bool managed_save = false, snapshots_metadata = false, checkpoints_metadata = false;
    bool nvram = false, keep_nvram = false, tpm = false, keep_tpm = false;
};
struct XmlOptions {
    bool inactive = false, secure = false, migratable = false;
};
enum class ChangeScope { current, live, persistent, both };

struct TimedStats {
    Stats values;
    std::uint64_t timestamp = 0;
    bool stale = false;
};

/// The verbs of a domain. Those that return JobPtr have started when they return; wait with Jobs::wait.
/// Guards are checked in the lane, before the first change; a refused job leaves no trace.
class Domain {
public:
    virtual ~Domain() = default;

    virtual const DomainView& view() const = 0;
    /// The definition as text. `inactive`: the stored one of a running domain. Without `secure` no passwords.
    virtual std::string xml(XmlOptions options) const = 0;
    /// What was not understood of the definition that is in force, as sentences.
    virtual std::vector<std::string> unknown() const = 0;

    virtual JobPtr start(StartOptions options, Caller caller) = 0;
    virtual JobPtr stop(StopOptions options, Caller caller) = 0;
    virtual JobPtr shutdown(ShutdownMode mode, Caller caller) = 0;
    virtual JobPtr reboot(ShutdownMode mode, Caller caller) = 0;
    virtual JobPtr reset(Caller caller) = 0;
    virtual JobPtr suspend(Caller caller) = 0;
    virtual JobPtr resume(Caller caller) = 0;
    virtual JobPtr inject_nmi(Caller caller) = 0;

    /// Writes its memory and devices to the file, with the caller's rights, and ends it.
    virtual JobPtr save(std::string file, SaveOptions options, Caller caller) = 0;
    /// The same to a file of the service's own, which the next start restores; `xml` is not used.
    virtual JobPtr managed_save(SaveOptions options, Caller caller) = 0;
    virtual JobPtr remove_managed_save(Caller caller) = 0;

    virtual JobPtr set_autostart(bool autostart, Caller caller) = 0;
    virtual JobPtr undefine(UndefineOptions options, Caller caller) = 0;
    virtual JobPtr rename(std::string name, Caller caller) = 0;
    /// kind: "description", "title" (value is the text, uri and key are empty) or "element" (value is XML, "" removes).
    virtual JobPtr set_metadata(std::string kind, std::string uri, std::string key, std::string value,
                                ChangeScope scope, Caller caller) = 0;
    virtual std::string metadata(std::string kind, std::string uri, ChangeScope scope) const = 0;
    virtual JobPtr set_memory(std::uint64_t bytes, ChangeScope scope, bool maximum, Caller caller) = 0;
    virtual JobPtr set_vcpus(std::uint32_t count, ChangeScope scope, bool maximum, Caller caller) = 0;

    /// `xml` is one device's element. What it means is service/device_edit's knowledge.
    virtual JobPtr attach_device(std::string xml, ChangeScope scope, bool force, Caller caller) = 0;
    virtual JobPtr detach_device(std::string xml, ChangeScope scope, bool force, Caller caller) = 0;
    virtual JobPtr update_device(std::string xml, ChangeScope scope, bool force, Caller caller) = 0;

    /// Sampled with a deadline; a guest that does not answer gives its last values, marked stale.
    virtual Task<TimedStats> stats(std::vector<std::string> groups) = 0;

    virtual Snapshots& snapshots() = 0;
    virtual Checkpoints& checkpoints() = 0;
    virtual Backups& backups() = 0;

    // These act on the guest's front ends and do not queue behind other verbs.
    virtual Task<> send_key(std::vector<std::string> keys) = 0;
    virtual Task<Screenshot> screenshot(std::uint32_t screen) = 0;
    virtual Task<Fd> open_console(std::string name, bool force) = 0;
    virtual Task<Fd> open_display(std::string type) = 0;
};
using DomainPtr = std::shared_ptr<Domain>;

}  // namespace virtbus
