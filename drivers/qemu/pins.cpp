// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/pins.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "qemu/json.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

const CpuSet* pin_of_vcpu(const DomainConfig& config, std::uint64_t index) {
    if (config.cputune)
        for (const auto& pin : config.cputune->vcpu_pins)
            if (pin.vcpu == index) return &pin.cpuset;
    return config.vcpu_cpuset ? &*config.vcpu_cpuset : nullptr;
}

const CpuSet* pin_of_iothread(const DomainConfig& config, const std::string& id) {
    if (config.cputune)
        for (const auto& pin : config.cputune->iothread_pins)
            if (id == fmt::format("iothread{}", pin.iothread)) return &pin.cpuset;
    return nullptr;
}

}  // namespace

bool has_pins(const DomainConfig& config) {
    const bool tuned = config.cputune && (!config.cputune->vcpu_pins.empty() || config.cputune->emulator_pin ||
                                          !config.cputune->iothread_pins.empty());
    return tuned || (config.vcpu_cpuset && !config.vcpu_cpuset->empty());
}

std::map<pid_t, CpuSet> plan_pins(const DomainConfig& config, const json& cpus, const json& iothreads,
                                  const std::vector<pid_t>& threads) {
    std::map<pid_t, CpuSet> plan;
    // A thread that is not of this process is nobody whom QEMU may name.
    std::set<pid_t> rest{threads.begin(), threads.end()};
    const auto take = [&](const json& entry, const CpuSet* set) {
        const auto thread = static_cast<pid_t>(number(entry, "thread-id"));
        if (rest.erase(thread) && set) plan[thread] = *set;
    };
    for (const auto& cpu : cpus) take(cpu, pin_of_vcpu(config, number(cpu, "cpu-index")));
    for (const auto& iothread : iothreads) take(iothread, pin_of_iothread(config, text(iothread, "id")));
    const CpuSet* emulator = config.cputune && config.cputune->emulator_pin ? &config.cputune->emulator_pin->cpuset
                             : config.vcpu_cpuset                           ? &*config.vcpu_cpuset
                                                                            : nullptr;
    if (emulator)
        for (const auto thread : rest) plan[thread] = *emulator;
    return plan;
}

std::vector<pid_t> threads_of(pid_t process) {
    std::vector<pid_t> threads;
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator{fmt::format("/proc/{}/task", process), gone})
        threads.push_back(std::atoi(entry.path().filename().c_str()));
    return threads;
}

std::string apply_pins(const std::map<pid_t, CpuSet>& pins) {
    std::string problem;
    for (const auto& [thread, cpus] : pins) {
        cpu_set_t set;
        CPU_ZERO(&set);
        for (const auto cpu : cpus.numbers)
            if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
        if (::sched_setaffinity(thread, sizeof set, &set) != 0) problem = std::strerror(errno);
    }
    return problem;
}

}  // namespace virtbus::qemu
