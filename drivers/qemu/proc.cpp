// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/proc.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace virtbus::qemu {

std::optional<ProcStat> read_proc_stat(const std::string& path) {
    std::ifstream file{path};
    std::string line;
    if (!std::getline(file, line)) return std::nullopt;
    // The name in brackets may hold anything, even brackets and spaces.
    const auto end = line.rfind(')');
    if (end == std::string::npos) return std::nullopt;
    std::istringstream fields{line.substr(end + 1)};
    std::string word;
    ProcStat stat;
    const auto tick = 1000000000ULL / static_cast<unsigned long long>(::sysconf(_SC_CLK_TCK));
    for (int field = 3; field <= 22 && fields >> word; ++field) {
        const auto value = field == 14 || field == 15 || field == 22 ? std::strtoull(word.c_str(), nullptr, 10) : 0;
        if (field == 14) stat.user = value * tick;
        if (field == 15) stat.system = value * tick;
        if (field == 22) stat.start_time = value;
    }
    return stat;
}

std::map<std::string, DeviceCounters> read_device_counters() {
    std::map<std::string, DeviceCounters> result;
    std::ifstream file{"/proc/net/dev"};
    for (std::string line; std::getline(file, line);) {
        const auto colon = line.find(':');
        if (colon == std::string::npos) continue;
        const auto start = line.find_first_not_of(' ');
        DeviceCounters counters;
        std::array<std::uint64_t, 16> fields{};
        std::istringstream numbers{line.substr(colon + 1)};
        for (auto& field : fields) numbers >> field;
        for (std::size_t i = 0; i < 4; ++i) {
            counters.received.at(i) = fields.at(i);
            counters.sent.at(i) = fields.at(i + 8);
        }
        result.emplace(line.substr(start, colon - start), counters);
    }
    return result;
}

std::uint64_t read_resident(std::uint32_t pid) {
    std::ifstream file{fmt::format("/proc/{}/statm", pid)};
    std::uint64_t size = 0, resident = 0;
    file >> size >> resident;
    return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace virtbus::qemu
