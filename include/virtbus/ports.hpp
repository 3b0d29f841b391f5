// SPDX-License-Identifier: LGPL-2.1-or-later
// The ports: everything the deciding rooms and the drivers ask of the outside, as interfaces that tests can stand in
// for. service/host, systemd/ and polkit/ implement them. Paths are absolute; errors are Error with the path in them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "virtbus/caller.hpp"
#include "virtbus/fd.hpp"
#include "virtbus/loop.hpp"
#include "virtbus/reply.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

/// Threads for work that blocks. Results come back on the loop.
class Workers {
public:
    virtual ~Workers() = default;
    explicit Workers(Loop& loop) : loop_{loop} {}

    /// Runs the function on a worker and awaits its result or exception. After the deadline or a stop the caller goes
    /// on without it, so the function must own all it touches.
    template <class F>
    Task<std::invoke_result_t<F&>> run(std::string what, F work, std::optional<Deadline> deadline,
                                       std::stop_token stop = {}) {
        using R = std::invoke_result_t<F&>;
        Reply<R> reply{loop_};
        submit([&loop = loop_, promise = reply.promise(), work = std::make_shared<F>(std::move(work))]() mutable {
            if constexpr (std::is_void_v<R>) {
                std::exception_ptr error = nullptr;
                try {
                    (*work)();
                } catch (...) {
                    error = std::current_exception();
                }
                loop.post([promise, error = std::move(error), work = std::move(work)] {
                    error ? promise.fail(error) : promise.set();
                });
            } else {
                std::exception_ptr error = nullptr;
                auto result = std::make_shared<std::optional<R>>();
                try {
                    result->emplace((*work)());
                } catch (...) {
                    error = std::current_exception();
                }
                loop.post([promise, error = std::move(error), result, work = std::move(work)] {
                    error ? promise.fail(error) : promise.set(std::move(**result));
                });
            }
        });
        if constexpr (std::is_void_v<R>)
            co_await reply.wait(std::move(what), deadline, std::move(stop));
        else
            co_return co_await reply.wait(std::move(what), deadline, std::move(stop));
    }

protected:
    /// Queues work for a thread. LimitsExceeded when the queue is full.
    virtual void submit(std::function<void()> work) = 0;

private:
    Loop& loop_;
};

/// Whose rights open a file: the daemon's own, or those of a caller.
struct Identity {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::vector<std::uint32_t> groups;
};

/// A file that is written under a temporary name in the folder of its final one.
struct NewFile {
    Fd file, folder;
    std::string path, temporary;
    std::optional<Identity> as;
};
using NewFilePtr = std::shared_ptr<NewFile>;

class Files {
public:
    virtual ~Files() = default;

    /// Writes to a temporary name, syncs, renames, syncs the folder; concurrent writes share the folder's sync.
    /// Nothing is left behind on failure; a full disk is NoSpace.
    virtual Task<> write(std::string path, std::string content, unsigned mode = 0600) = 0;
    /// The same without the syncs and without suspending, for folders that do not survive a reboot.
    virtual void write_volatile(const std::string& path, std::string_view content, unsigned mode = 0600) = 0;
    /// Removes the file and syncs the folder. A file that is not there is no error.
    virtual Task<> remove(std::string path) = 0;
    virtual void remove_volatile(const std::string& path) = 0;
    virtual Task<> rename(std::string from, std::string to) = 0;
    /// Makes `link` a symbolic link to `target`, replacing what was there in one step.
    virtual Task<> link(std::string target, std::string link) = 0;
    /// The content; LimitsExceeded when longer than `limit` bytes. nullopt when there is no such file.
    virtual std::optional<std::string> read(const std::string& path, std::size_t limit) = 0;
    /// Names of the folder's entries, sorted; empty when there is no such folder.
    virtual std::vector<std::string> list(const std::string& folder) = 0;
    virtual void make_folder(const std::string& path, unsigned mode = 0700) = 0;
    virtual bool exists(const std::string& path) = 0;
    /// Opens on a worker (a hung mount must not hang the daemon), with close-on-exec; `flags` and `mode` as for
    /// open(2).
    virtual Task<Fd> open(std::string path, int flags, unsigned mode, std::optional<Identity> as, Deadline deadline,
                          std::stop_token stop = {}) = 0;

    /// The rights of a user: uid, group and groups as the host's user database has them.
    virtual Task<Identity> identify(std::uint32_t uid, Deadline deadline) = 0;
    /// Begins a regular file that shall have the name `path`, for what is too long for `write`. It must be committed or
    /// discarded; what a daemon that dies leaves is `temporary`. Never follows a link in the last component.
    virtual Task<NewFilePtr> create_beside(std::string path, unsigned mode, std::optional<Identity> as,
                                           Deadline deadline, std::stop_token stop = {}) = 0;
    /// Syncs it, gives it its name in place of what has that, syncs the folder. When it throws nothing has the name.
    virtual Task<> commit(NewFilePtr file) = 0;
    virtual Task<> discard(NewFilePtr file) = 0;
    /// Removes the temporary file that an earlier daemon has left; one that is not there is no error.
    virtual Task<> remove_temporary(std::string temporary, std::optional<Identity> as) = 0;
};

struct Command {
    std::vector<std::string> argv;  ///< argv[0] is an absolute path
    std::string input;
    std::size_t output_limit = 1 << 20;
    std::vector<std::pair<int, int>> fds;  ///< descriptor here, number there
    /// What a child that reads hostile input may use; 0: as much as the daemon.
    struct Limits {
        std::uint64_t memory = 0;       ///< bytes of data
        std::uint64_t cpu_seconds = 0;  ///< of work, not of time
        std::uint64_t files = 0;        ///< open at once
    } limits{};
};
struct CommandResult {
    int status = 0;  ///< exit code, or 128 + signal
    std::string output, errors;
};

/// Short-lived helpers (qemu-img, probes). The child dies with the wait: when that ends with an error it is gone,
/// unless the kernel cannot end it because its disk hangs.
class Spawner {
public:
    virtual ~Spawner() = default;
    virtual Task<CommandResult> run(Command command, Deadline deadline, std::stop_token stop = {}) = 0;
};

enum class Priority { error = 3, warning = 4, notice = 5, info = 6, debug = 7 };

/// One line in the journal. Fields are journal fields ("DOMAIN", "DOMAIN_UUID", "MESSAGE_ID").
class Log {
public:
    using Fields = std::vector<std::pair<std::string, std::string>>;
    virtual ~Log() = default;
    virtual void write(Priority priority, std::string_view message, const Fields& fields = {}) = 0;
    void error(std::string_view message, const Fields& fields = {}) { write(Priority::error, message, fields); }
    void warning(std::string_view message, const Fields& fields = {}) { write(Priority::warning, message, fields); }
    void info(std::string_view message, const Fields& fields = {}) { write(Priority::info, message, fields); }
    void debug(std::string_view message, const Fields& fields = {}) { write(Priority::debug, message, fields); }
};

/// A unit's share of the host; what is absent is not set. Kept by a system manager only.
struct UnitLimits {
    std::optional<std::uint64_t> cpu_weight, io_weight;              ///< 1 to 10,000; 100 is everybody's
    std::optional<std::uint64_t> cpu_quota;                          ///< microseconds of CPU a second
    std::optional<std::uint64_t> cpu_period;                         ///< how often the quota is measured, microseconds
    std::optional<std::uint64_t> memory_high, memory_max, swap_max;  ///< bytes
    struct Device {
        std::string path;
        std::optional<std::uint64_t> weight, read_bytes, write_bytes, reads, writes;  ///< a second
    };
    std::vector<Device> devices;
    std::vector<unsigned> memory_nodes;  ///< NUMA nodes of the host that its memory comes from; empty: all
};

/// A long-lived process of a guest: its machine, or a helper bound to it.
struct UnitRequest {
    /// "qemu"; with id and name it makes the unit's name, virtbus-<driver>-<id>-<name>[-<helper>].service
    std::string driver;
    std::uint32_t id = 0;
    std::string name;  ///< of the domain; escaped for the unit's name
    std::string uuid;  ///< registered with machined unless it is a helper
    /// "swtpm": a process beside that machine, in a unit of its own that is stopped with the machine's and may do less.
    /// Empty: the machine itself.
    std::string helper;
    std::string description;
    std::vector<std::string> argv;  ///< argv[0] is an absolute path
    std::map<std::string, std::string> environment;
    std::vector<std::pair<int, int>> fds;  ///< descriptor here, number there (3 and up)
    int output = -1;                       ///< becomes its standard output and error
    bool network = false;                  ///< needs AF_INET/AF_INET6 of its own
    std::vector<std::string> devices;      ///< device nodes it may open itself, e.g. /dev/kvm
    std::vector<std::string> writable;     ///< folders it may write; they and the files in them become its user's
    std::vector<std::string> given;        ///< device nodes that become its user's
    /// Not 0: a helper that serves files of the host to their owners' rules. It is root where machines are not, with
    /// only these capabilities (bits), and nothing hides the `shared` folders from it, which keep their owners.
    std::uint64_t capabilities = 0;
    std::vector<std::string> shared;
    /// Not a machine's but a service of the host: it runs as this user, if there is one of that name, and keeps
    /// `capabilities` for it; without a system manager it is started as root and changes its user itself. Its folders
    /// (`writable`) become that user's, the `shared` ones it only reads. Nothing of it is registered with machined.
    std::string account;
    std::string slice;                ///< from <resource>; empty: machine.slice
    std::uint64_t memory_locked = 0;  ///< bytes; RLIMIT_MEMLOCK
    UnitLimits limits;
};

/// What a machine that runs already is given beside what it has from its start.
struct UnitGrant {
    std::vector<std::string> devices;  ///< device nodes it may open itself
    std::vector<std::string> given;    ///< those of them that become its user's
    std::uint64_t memory_locked = 0;   ///< bytes, if it has less; that is not taken back
};

struct Unit {
    std::uint32_t pid = 0;
    Fd pidfd;
    std::string name;  ///< of the systemd unit; empty without a system manager
};

struct ExitStatus {
    bool known = false;
    int code = 0;  ///< exit code when signal is 0
    int signal = 0;
};

/// Starts and ends the long-lived processes: transient services under a system manager, plain processes without one.
/// They survive the daemon.
class Units {
public:
    virtual ~Units() = default;
    /// Returns when the program itself runs (its exec has succeeded) or throws HypervisorFailed with the reason.
    virtual Task<Unit> start(UnitRequest request, Deadline deadline, std::stop_token stop = {}) = 0;
    /// Finds a process again after a restart: `pid` must still be the one started at `start_time` (field 22 of
    /// /proc/pid/stat). nullopt when it is gone.
    virtual std::optional<Unit> adopt(std::uint32_t pid, std::uint64_t start_time, const std::string& unit) = 0;
    /// Sends SIGKILL to all of it, or SIGTERM with `graceful`. Does not wait; the pidfd tells the end.
    virtual void kill(const Unit& unit, bool graceful) = 0;
    /// How it ended; to be asked once the pidfd is readable. Also clears a failed unit away.
    virtual Task<ExitStatus> exit_status(std::string unit, std::uint32_t pid, Deadline deadline) = 0;
    /// A machine may do this from now on, as if its start had said so.
    virtual Task<> allow(std::string unit, std::uint32_t pid, UnitGrant grant, Deadline deadline) = 0;
    /// It may no longer open these nodes, whoever has allowed it; what it has open stays open. Given ones are ours
    /// again.
    virtual Task<> deny(std::string unit, UnitGrant grant, Deadline deadline) = 0;
};

/// What polkit said.
enum class Verdict { allowed, denied, challenge };

class Authority {
public:
    virtual ~Authority() = default;
    /// Asks about the caller. `challenge`: a dialogue could help but the caller allows none. Destroying or stopping the
    /// task withdraws the question.
    virtual Task<Verdict> check(Caller caller, std::string action, std::map<std::string, std::string> details,
                                std::stop_token stop = {}) = 0;
};

/// Marks texts as this host's own, so that the daemon can tell what it wrote from what others made up.
class Seal {
public:
    virtual ~Seal() = default;
    /// 32 bytes that nobody else can find for this text.
    virtual std::string of(std::string_view text) = 0;
};

/// One PCI device of the host as its kernel has it. Addresses are written "0000:01:00.0".
struct PciFacts {
    bool there = false;
    std::string driver;         ///< that has it; "" = none
    std::string override_name;  ///< the only driver that may take it; "" = any
    std::string group;          ///< of the IOMMU; "" = in none
    bool bridge = false;
    struct Member {
        std::string address, driver;
        bool bridge = false;
    };
    std::vector<Member> members;  ///< of its group, itself among them
};

/// Gives PCI devices of the host from one driver to another. Who may have which is service's to decide.
class PciDevices {
public:
    virtual ~PciDevices() = default;
    virtual Task<PciFacts> look(std::string address, Deadline deadline, std::stop_token stop = {}) = 0;
    /// Takes the device from its driver and gives it to `driver`. What has been done when it throws is for give_back.
    virtual Task<> bind(std::string address, std::string driver, Deadline deadline, std::stop_token stop = {}) = 0;
    /// Makes it as `before` was, if it is free or `bound` has it. Can be repeated; a device that is gone is no error.
    virtual Task<> give_back(std::string address, std::string bound, PciFacts before, Deadline deadline) = 0;
};

/// Where things live; see the table in HACKING.md. Folders end without a slash.
struct Folders {
    std::string config, state, runtime, cache, logs;
};

/// The outside, bundled for those who hand it on.
struct Ports {
    Loop& loop;
    Clock& clock;
    Workers& workers;
    Files& files;
    Spawner& spawner;
    Log& log;
    Units& units;
    Folders folders;
    std::string boot_id;
    bool system_mode = false;
    Seal* seal = nullptr;       ///< null: nothing is known to be our own
    PciDevices* pci = nullptr;  ///< null: no PCI device is given to a guest
};

}  // namespace virtbus
