// SPDX-License-Identifier: LGPL-2.1-or-later
// The host's NUMA cells and processors, as the kernel shows them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace virtbus::qemu {

struct HostCpu {
    unsigned id = 0, socket = 0, die = 0, core = 0;
    std::string siblings;  ///< "0-1"
};
struct HostCell {
    unsigned id = 0;
    std::uint64_t memory = 0;  ///< bytes
    std::vector<HostCpu> cpus;
};
struct HostTopology {
    std::vector<HostCell> cells;
    unsigned sockets = 1, dies = 1, cores = 1, threads = 1;
};

/// `root` is "/sys/devices/system"; a host without NUMA is one cell.
HostTopology read_host_topology(const std::string& root = "/sys/devices/system");

/// The numbers of a kernel list, "0-3,8".
std::vector<unsigned> parse_cpu_list(const std::string& list);

}  // namespace virtbus::qemu
