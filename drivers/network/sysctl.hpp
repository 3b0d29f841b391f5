// SPDX-License-Identifier: LGPL-2.1-or-later
// Kernel settings below /proc/sys/net that networks need, recorded before they are changed and put back when the last
// network that needs them has gone. Everything here blocks.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>

namespace virtbus::network {

/// A setting is named by its path below /proc/sys, as "net/ipv4/ip_forward"; it is that of the network namespace of the
/// calling thread. Its value comes without the end of the line; nothing when there is no such setting.
std::optional<std::string> read_setting(const std::string& setting);
/// False when there is no such setting; Error when it is not taken.
bool write_setting(const std::string& setting, const std::string& value);

/// Forwarding between the host's devices. Shared by all networks; safe to call from any thread. What was changed is
/// kept in a file, so that a later daemon can put it back.
class Forwarding {
public:
    /// `record`: path of the file, in a folder that does not survive a reboot. Reads what an earlier daemon left.
    explicit Forwarding(std::string record);

    /// What `network` needs to be forwarded from now on. Turning IPv6 on keeps the router advertisements that devices of
    /// the host accepted so far accepted. On failure nothing is changed.
    void hold(const std::string& network, bool ipv4, bool ipv6);
    /// It does not any more; the settings are put back when it was the last.
    void release(const std::string& network);

private:
    struct Record {
        std::set<std::string> ipv4, ipv6;           ///< networks
        std::map<std::string, std::string> before;  ///< setting -> its value
    };
    void load();
    void save() const;
    void need(bool ipv6);
    void put_back(bool ipv6);

    const std::string path_;
    std::mutex mutex_;
    Record record_;
};

}  // namespace virtbus::network
