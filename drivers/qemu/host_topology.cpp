// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/host_topology.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <tuple>

namespace virtbus::qemu {

namespace {

constexpr unsigned most_cpus = 65536;

std::string read_line(const std::string& path) {
    std::ifstream file{path};
    std::string line;
    std::getline(file, line);
    return line;
}

unsigned read_number(const std::string& path) {
    return static_cast<unsigned>(std::strtoul(read_line(path).c_str(), nullptr, 10));
}

std::uint64_t cell_memory(const std::string& folder) {
    std::ifstream file{folder + "/meminfo"};
    for (std::string line; std::getline(file, line);)
        if (const auto at = line.find("MemTotal:"); at != std::string::npos)
            return std::strtoull(line.c_str() + at + 9, nullptr, 10) * 1024;
    return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

HostCpu read_cpu(const std::string& root, unsigned id) {
    const auto topology = fmt::format("{}/cpu/cpu{}/topology/", root, id);
    HostCpu cpu{id, read_number(topology + "physical_package_id"), read_number(topology + "die_id"),
                read_number(topology + "core_id"), read_line(topology + "thread_siblings_list")};
    if (cpu.siblings.empty()) cpu.siblings = fmt::format("{}", id);
    return cpu;
}

HostCell read_cell(const std::string& root, unsigned id, const std::string& cpus, const std::string& folder) {
    HostCell cell{id, cell_memory(folder), {}};
    for (const auto cpu : parse_cpu_list(cpus)) cell.cpus.push_back(read_cpu(root, cpu));
    return cell;
}

void count(HostTopology& topology) {
    std::set<unsigned> sockets;
    std::set<std::pair<unsigned, unsigned>> dies;
    std::set<std::tuple<unsigned, unsigned, unsigned>> cores;
    unsigned cpus = 0;
    for (const auto& cell : topology.cells)
        for (const auto& cpu : cell.cpus) {
            ++cpus;
            sockets.insert(cpu.socket);
            dies.emplace(cpu.socket, cpu.die);
            cores.emplace(cpu.socket, cpu.die, cpu.core);
        }
    if (cpus == 0) return;
    topology.sockets = static_cast<unsigned>(sockets.size());
    topology.dies = static_cast<unsigned>(dies.size()) / topology.sockets;
    topology.cores = static_cast<unsigned>(cores.size() / dies.size());
    topology.threads = cpus / static_cast<unsigned>(cores.size());
}

}  // namespace

std::vector<unsigned> parse_cpu_list(const std::string& list) {
    std::vector<unsigned> result;
    const char* at = list.c_str();
    while (*at >= '0' && *at <= '9') {
        char* end = nullptr;
        const auto first = std::strtoul(at, &end, 10);
        auto last = first;
        if (*end == '-') last = std::strtoul(end + 1, &end, 10);
        for (auto i = first; i <= last && i < most_cpus; ++i) result.push_back(static_cast<unsigned>(i));
        at = *end == ',' ? end + 1 : end;
        if (*end != ',') break;
    }
    return result;
}

HostTopology read_host_topology(const std::string& root) {
    HostTopology topology;
    for (const auto id : parse_cpu_list(read_line(root + "/node/online"))) {
        const auto folder = fmt::format("{}/node/node{}", root, id);
        topology.cells.push_back(read_cell(root, id, read_line(folder + "/cpulist"), folder));
    }
    if (topology.cells.empty()) topology.cells.push_back(read_cell(root, 0, read_line(root + "/cpu/online"), {}));
    count(topology);
    return topology;
}

}  // namespace virtbus::qemu
