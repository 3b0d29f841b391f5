// SPDX-License-Identifier: LGPL-2.1-or-later
// One process of dnsmasq, from its start to its end, and how to know that it serves. What it is told, and what becomes
// of it when it ends, is dnsmasq.hpp's. Main thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "network/dnsmasq.hpp"

namespace virtbus::network {

struct DnsmasqOrder {
    std::string program;
    std::string folder;   ///< with its files in place
    std::string account;  ///< whose rights it gets; "" keeps the daemon's
    std::uint32_t id = 0;
    std::string name;                   ///< of the network
    std::vector<std::string> readable;  ///< folders that it shows to guests
    /// The file that it reads last when it begins and when it reads again; "" when there is none.
    std::string read_last;
};

class DnsmasqProcess : public std::enable_shared_from_this<DnsmasqProcess> {
public:
    /// Returns when it serves. A failure leaves no process; its message has dnsmasq's own last words.
    static Task<std::shared_ptr<DnsmasqProcess>> start(Ports& ports, DnsmasqOrder order, Deadline deadline,
                                                       std::stop_token stop);
    /// The process on record, or the one that the folder itself speaks of, which an earlier daemon had no time to
    /// record; nullptr when there is none.
    static std::shared_ptr<DnsmasqProcess> find(Ports& ports, const std::string& folder, const DnsmasqRecord& record);

    DnsmasqProcess(Ports& ports, std::string folder, Unit unit);

    const DnsmasqRecord& record() const { return record_; }
    bool is_gone() const { return gone_; }
    /// Called once, from the loop, when it has ended.
    void when_gone(std::function<void()> gone) { when_gone_ = std::move(gone); }
    /// Has it read its files again; returns when it has.
    Task<> reload(std::string read_last, Deadline deadline);
    /// Does not wait; end() is still to come.
    void kill();
    /// `graceful`: it may finish what it writes.
    Task<> end(bool graceful, Deadline deadline);
    /// For one that is gone: how it ended, with its last words. Clears its unit away.
    Task<std::string> how_it_ended(Deadline deadline);

private:
    Task<> wait_gone(Deadline deadline);

    Ports& ports_;
    const std::string folder_;
    Unit unit_;
    DnsmasqRecord record_;
    Registration watch_;
    std::function<void()> when_gone_;
    std::vector<Reply<>::Promise> waiting_;
    bool gone_ = false;
};

}  // namespace virtbus::network
