// SPDX-License-Identifier: LGPL-2.1-or-later
// What the daemon tells virtbus-launch, and how it travels: one sealed memfd with the words and numbers, and every
// descriptor, in packets over the socket that is the launcher's standard input. Both sides use this file; it needs the
// standard library only. What the launcher does with the request is left to launch_main.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "virtbus/fd.hpp"

namespace virtbus::systemd {

/// Whose rights a guest runs with.
struct Account {
    std::uint32_t uid = 0, gid = 0;
    std::vector<std::uint32_t> groups;
};

/// What to run. Descriptors belong to whoever filled the struct in.
struct LaunchOrder {
    std::vector<std::string> argv;         ///< argv[0] is an absolute path
    std::vector<std::string> environment;  ///< KEY=value, the whole of it
    std::vector<std::pair<int, int>> fds;  ///< descriptor here, number there (3 and up, each once)
    int output = -1;                       ///< becomes standard output and error; -1 keeps what the launcher was given
    int report = -1;                       ///< a packet socket: first the pid and pidfd, then text if the start failed
    std::optional<Account> account;        ///< when the launcher itself has to change it
    std::uint64_t memory_locked = 0;       ///< RLIMIT_MEMLOCK in bytes; 0 leaves it
};

/// The same on the launcher's side, where the descriptors arrived and are owned.
struct ReceivedOrder {
    LaunchOrder order;
    std::vector<Fd> owned;
};

inline constexpr std::uint32_t launch_version = 1;
inline constexpr std::size_t launch_max_body = 4 << 20;
inline constexpr std::size_t launch_max_fds = 1000;
inline constexpr int launch_max_number = 4096;
inline constexpr std::size_t launch_fds_per_packet = 253;  ///< the kernel's SCM_MAX_FD

/// The words and numbers as bytes, without the descriptors. LimitsExceeded or InvalidArgs for what breaks a bound.
std::string encode(const LaunchOrder& order);
/// The reverse: each descriptor is -1, fds hold the numbers, and output is 0 when one was given. InvalidArgs otherwise.
LaunchOrder decode(std::string_view body);

/// Sends the whole order without blocking.
void send_order(int socket, const LaunchOrder& order);
/// Waits for the whole order.
ReceivedOrder receive_order(int socket);

/// The launcher's first packet: its own pid and a pidfd that names it for ever.
void send_started(int report);
struct Started {
    std::uint32_t pid = 0;
    Fd pidfd;
};
/// One packet of the report: what the launcher started as, a failure text, or (both empty) the end.
struct Report {
    std::optional<Started> started;
    std::string failure;
};
/// Reads one packet without blocking. nullopt when there is none yet.
std::optional<Report> receive_report(int report);

}  // namespace virtbus::systemd
