// SPDX-License-Identifier: LGPL-2.1-or-later
// dnsmasq of one network: a process of its own that outlives the daemon, told of changes, started again when it ends by
// itself, given up when that happens again and again. What it serves is dnsmasq_config's business.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "virtbus/model/network.hpp"
#include "virtbus/network_driver.hpp"
#include "virtbus/ports.hpp"
#include "virtbus/task.hpp"

namespace virtbus::network {

/// What is on record of it, as text for the network's driver_state.
struct DnsmasqRecord {
    std::uint32_t pid = 0;
    std::uint64_t start_time = 0;  ///< field 22 of /proc/pid/stat
    std::string unit;
    bool operator==(const DnsmasqRecord&) const = default;
};

/// Main thread.
class Dnsmasq {
public:
    struct Setting {
        Ports& ports;
        std::string folder;  ///< its own, below <runtime>/network; made and removed with it
        std::uint32_t id = 0;
        std::string name;  ///< of the network, for the unit's name and the log
        std::string uuid;
        /// record() is another one. Called before start() and update() return; what it throws makes a start fail.
        std::function<void()> moved;
        std::function<void()> leases_changed;      ///< leases() are others
        std::function<void(std::string)> problem;  ///< why it is not running any more; "" when it is again
        std::string program = "/usr/sbin/dnsmasq";
    };
    explicit Dnsmasq(Setting setting);
    ~Dnsmasq();

    /// Returns when it serves. HypervisorFailed with its own last words when it ends at once; nothing is left then.
    Task<> start(const NetworkConfig& config, Deadline deadline, std::stop_token stop = {});
    /// Takes up the one on record; one that has ended is started again. When that fails it is a problem, no error.
    Task<> adopt(const NetworkConfig& config, DnsmasqRecord record, Deadline deadline);
    /// SIGHUP where that is enough, otherwise a new process with the same leases; nothing when nothing differs. One
    /// that was given up is tried again. When it throws, what was served before is served again as far as that can be
    /// had.
    Task<> update(const NetworkConfig& config, Deadline deadline);
    /// The first half of stop(), for those who have other things to do while the kernel takes the process apart.
    void begin_stop();
    /// Ends it and removes its folder. For one that only a record speaks of as well.
    Task<> stop(Deadline deadline);
    /// For one that is only to be stopped.
    void set_record(DnsmasqRecord record);
    DnsmasqRecord record() const;
    const std::vector<DhcpLease>& leases() const;
    const std::string& problem() const;

private:
    struct Parts;
    std::shared_ptr<Parts> parts_;
};

}  // namespace virtbus::network
