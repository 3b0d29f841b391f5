// SPDX-License-Identifier: LGPL-2.1-or-later
// The contracts between service/ and the drivers: a hypervisor driver starts and adopts guests, a guest obeys verbs and
// reports events, and the resources of a start are opened through a broker that service/ owns. Drivers see the model,
// never XML and never the bus. All calls are made on the main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "virtbus/disk_work.hpp"
#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"
#include "virtbus/model/domain.hpp"
#include "virtbus/ports.hpp"
#include "virtbus/state.hpp"
#include "virtbus/task.hpp"

namespace virtbus {

// ---- links: how a network interface reaches the outside ----------------------------------------------------------

struct LinkRequest {
    std::string domain_uuid, domain_name;
    Interface interface;  ///< from the model, with its MAC
    unsigned queues = 1;
    bool vnet_header = true;  ///< the front end takes virtio-net headers
};
struct Link {
    std::vector<Fd> fds;   ///< tap descriptors, one per queue
    std::string ifname;    ///< the host's side
    std::string undo_key;  ///< what close_link wants; recorded in the status file before the guest starts
    /// What the guest's interface has become, when that is more than was asked for: a virtual network says which
    /// bridge, device or PCI function of the host it is (see actual_type).
    std::optional<Interface> interface{};
};

/// Makes and removes the host's side of interfaces (bridge, ethernet, network, direct).
class LinkProvider {
public:
    virtual ~LinkProvider() = default;
    virtual Task<Link> open_link(LinkRequest request, Deadline deadline, std::stop_token stop = {}) = 0;
    /// Takes it down; a link that is gone already is no error.
    virtual Task<> close_link(std::string undo_key) = 0;
    /// Puts a link that a guest has back where `request` says, as its network came anew or the daemon did. The link's
    /// descriptors are with the guest. Nothing to do is no error.
    virtual Task<> reconnect_link(std::string /*undo_key*/, LinkRequest /*request*/, Deadline /*deadline*/) {
        co_return;
    }
};

// ---- resources: what a start opens ---------------------------------------------------------------------------------

enum class Access { read, read_write };

/// A PCI device of the host that a device of the guest stands for.
struct PciRequest {
    std::string address;   ///< "0000:01:00.0"
    std::string alias;     ///< of the guest's device
    bool managed = false;  ///< taken from its driver, and given back at the end of the device or the run
    std::string driver;    ///< that is to have it meanwhile: "vfio-pci" or a variant of it
};

/// Opens what a guest needs, on workers and under the start's deadline, records it and undoes it when the start fails.
class Resources {
public:
    virtual ~Resources() = default;
    /// An image, kernel, firmware, device node ... With `read` the file is opened read-only. Messages name the path.
    virtual Task<Fd> open_file(std::string path, Access access) = 0;
    /// Creates (0600, exclusive) or truncates a file for the guest to write.
    virtual Task<Fd> create_file(std::string path) = 0;
    /// Appends to a log in the logs folder, made if missing.
    virtual Task<Fd> open_log(std::string path) = 0;
    virtual Task<Link> open_link(LinkRequest request) = 0;
    /// Gives the guest all these, which are opened at once: IOMMU groups go to one guest as a whole. DeviceInUse,
    /// naming the device and the guest or the driver that has it.
    virtual Task<> take_pci(std::vector<PciRequest>) {
        throw Error{Code::unsupported, "no PCI device can be taken from this host"};
    }
    /// Another device of the host that serves one guest, by a name that only it has: "usb:003/004". DeviceInUse, naming
    /// the guest that has it. It is released as links are.
    virtual void claim(std::string /*device*/, std::string /*alias*/) {}
    /// The bytes of a stored secret. They belong into sealed memory for the guest: never into argv, logs or files.
    virtual Task<std::string> secret(SecretRef) { throw Error{Code::unsupported, "no secrets are kept here"}; }
    virtual std::stop_token stop() const = 0;
};

// ---- a running guest -----------------------------------------------------------------------------------------------

using StatValue = std::variant<bool, std::uint32_t, std::uint64_t, std::int64_t, double, std::string>;
using Stats =
    std::map<std::string, StatValue>;  ///< "state.state", "cpu.time", "block.0.rd.bytes" ..., as in libvirt's records

struct Screenshot {
    std::string png;
};

/// The end of a guest's process.
struct GuestEnd {
    std::string reason;      ///< why it is shut off: "shutdown", "destroyed", "crashed", "failed"
    std::string last_words;  ///< the last line of its log when it crashed or failed
};

/// What a guest tells its owner. Called from the loop, never from inside a call to the guest; only what a change of
/// devices brings about is told before that call's task ends.
class GuestEvents {
public:
    virtual ~GuestEvents() = default;
    virtual void state_changed(State state, std::string reason) = 0;
    /// The process is gone; the last call.
    virtual void ended(GuestEnd end) = 0;
    virtual void rebooted() = 0;
    /// The live definition changed by itself (device gone, balloon moved ...).
    virtual void config_changed(DomainConfig config) = 0;
    virtual void responsive_changed(bool responsive) = 0;
    virtual void device_added(std::string alias) = 0;
    virtual void device_removed(std::string alias) = 0;
    virtual void device_removal_failed(std::string alias) = 0;
    virtual void io_error(std::string alias, std::string action, std::string reason) = 0;
    virtual void watchdog_fired(std::string action) = 0;
    virtual void agent_changed(bool connected) = 0;
};

/// How a verb reaches the guest: "acpi", "agent" or "default".
using ShutdownMode = std::string;

/// A change of a running machine's devices, and what it may use.
struct DeviceRequest {
    Device device;  ///< completed as far as that can be done without knowing the driver; to be detached: as it runs
    std::shared_ptr<const DomainConfig> stored;  ///< what it claims is left to it where possible; may be null
    Resources& resources;                        ///< lives as long as the run
    bool force = false;                          ///< without waiting for the guest's consent, where that can be
};

/// One running machine. Destroying the object forgets the guest and leaves its process alone.
/// Verbs return when the guest took them; what follows comes as events.
class Guest {
public:
    virtual ~Guest() = default;

    virtual std::uint32_t pid() const = 0;
    virtual std::string unit() const = 0;
    /// Everything `adopt` needs, as one opaque, versioned string for the status file.
    virtual std::string driver_state() const = 0;
    /// The definition as it runs: aliases, addresses, pty paths, ports filled in.
    virtual const DomainConfig& config() const = 0;

    virtual Task<> resume(std::stop_token stop) = 0;
    virtual Task<> suspend(std::stop_token stop) = 0;
    virtual Task<> shutdown(ShutdownMode mode, std::stop_token stop) = 0;
    virtual Task<> reboot(ShutdownMode mode, std::stop_token stop) = 0;
    virtual Task<> reset(std::stop_token stop) = 0;
    virtual Task<> inject_nmi(std::stop_token stop) = 0;
    /// Ends the process now (SIGKILL to the unit; SIGTERM first with `graceful`, for `grace`). Every wait on the
    /// guest then fails. `ended` follows with reason "destroyed".
    virtual void kill(bool graceful) = 0;

    /// Stops the CPUs and writes the whole state to `target` (a pipe, or a regular file from where it stands), for
    /// StartRequest::incoming to read. Returns when all is written; the CPUs stand still. When it throws, or when what
    /// was written cannot be kept, undo_save is called.
    /// With `live` the CPUs run until the state is nearly all written.
    virtual Task<> save(Fd target, ProgressSink progress, std::stop_token stop, bool live = false) = 0;
    /// Gives up a save, also one that an earlier daemon began: its writing ends, and the CPUs run again if `running`.
    /// Can be repeated, and does nothing to a guest that is not being saved but let it run.
    virtual Task<> undo_save(bool running) = 0;
    // Devices come and go with config_changed and device_added or device_removed, told before the call returns. What
    // cannot be done is refused before the first change; a failure takes away again what it had added.
    /// Unsupported, UnsupportedConfiguration: it cannot be plugged while the machine runs.
    virtual Task<> attach(DeviceRequest request, std::stop_token stop) = 0;
    /// Returns when the device is gone. Timeout when the guest has not let go of it so far: the request stands, and
    /// device_removed will come. DeviceInUse when the guest refuses, or something else hangs on the device.
    virtual Task<> detach(std::string alias, bool force, std::stop_token stop) = 0;
    /// `request.device` replaces the one with its alias. Unsupported, naming what cannot be changed.
    virtual Task<> update(DeviceRequest request, std::stop_token stop) = 0;
    /// Asks the guest, through its balloon, to use so much. It follows as it can, with config_changed.
    virtual Task<> set_memory(std::uint64_t bytes, std::stop_token stop) = 0;
    /// Plugs or unplugs virtual CPUs until that many are there; like attach and detach.
    virtual Task<> set_vcpus(std::uint32_t count, std::stop_token stop) = 0;

    // Null: the driver cannot do that. They live as long as the guest.
    virtual DiskWork* disk_work() { return nullptr; }
    virtual BitmapWork* bitmap_work() { return nullptr; }
    virtual Agent* agent() { return nullptr; }

    /// Everything it can count.
    virtual Task<Stats> stats(std::stop_token stop) = 0;
    virtual Task<> send_key(std::vector<std::string> keys, std::stop_token stop) = 0;
    virtual Task<Screenshot> screenshot(std::uint32_t screen, std::stop_token stop) = 0;
    /// One end of a stream to the console, serial, parallel or channel device of that name ("" = the first console).
    /// DeviceInUse when someone has it, unless `force` takes it away from them.
    virtual Task<Fd> open_console(std::string name, bool force, std::stop_token stop) = 0;
    /// A socket that speaks the display's protocol ("dbus", "vnc", "spice"; "" = the first of the definition).
    virtual Task<Fd> open_display(std::string type, std::stop_token stop) = 0;
};

// ---- a hypervisor driver -------------------------------------------------------------------------------------------

struct StartRequest {
    DomainConfig config;  ///< complete (see HypervisorDriver::complete)
    std::uint32_t id = 0;
    bool paused = false;
    bool reset_nvram = false;
    Resources& resources;
    GuestEvents& events;
    Deadline deadline;
    std::stop_token stop;
    /// To be told what adopt() needs to end what there is so far, each time that this grows before the guest is
    /// returned: a daemon that dies in the middle then leaves no process that nobody knows. May throw.
    std::function<void(std::string driver_state)> unfinished = [](auto&&) {};
    /// A stream that Guest::save wrote, from a pipe; invalid: boot. The start returns when all of it has been taken,
    /// with the CPUs halted whatever `paused` says.
    Fd incoming{};
};

class HypervisorDriver {
public:
    virtual ~HypervisorDriver() = default;

    virtual std::string name() const = 0;                ///< "qemu": the Driver property
    virtual std::vector<std::string> types() const = 0;  ///< "qemu", "kvm": the <domain type=> values it runs
    /// What it does with the images of machines that do not run; null: nothing.
    virtual Images* images() { return nullptr; }

    /// Makes the definition whole as libvirt would: machine alias resolved, default devices and controllers added,
    /// models chosen, addresses assigned. What `config` already says stays; where it is silent about an address,
    /// `previous` (the definition it replaces) is followed so that addresses are stable.
    /// UnsupportedConfiguration for what contradicts itself.
    virtual Task<> complete(DomainConfig& config, const DomainConfig* previous) = 0;
    /// What this host cannot do of a complete definition; one sentence each, empty when it could start.
    virtual Task<std::vector<std::string>> unsupported(DomainConfig config) = 0;
    /// What of it is understood and has no effect here, without harm; one sentence each.
    virtual std::vector<std::string> ignored(const DomainConfig&) { return {}; }
    /// The stand-alone argv, with paths and interface names; with `runnable` back ends that need the outside become
    /// null or user ones.
    virtual Task<std::vector<std::string>> command(DomainConfig config, bool runnable) = 0;

    virtual Task<std::unique_ptr<Guest>> start(StartRequest request) = 0;
    /// Takes up a guest that an earlier daemon started. nullptr when it is gone, or was not started to the end and is
    /// gone now: then `end` says how it ended.
    virtual Task<std::unique_ptr<Guest>> adopt(DomainConfig config, std::string driver_state, GuestEvents& events,
                                               GuestEnd& end) = 0;

    /// <capabilities> and <domainCapabilities> as model-free XML text.
    virtual Task<std::string> capabilities() = 0;
    virtual Task<std::string> domain_capabilities(std::string emulator, std::string arch, std::string machine,
                                                  std::string type) = 0;
};

}  // namespace virtbus
