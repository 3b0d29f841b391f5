// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/check_tuning.hpp"

#include <fmt/format.h>

#include <array>
#include <set>

#include "virtbus/error.hpp"
#include "virtbus/model/iothreads.hpp"

namespace virtbus::xml {

namespace {

template <class... T>
[[noreturn]] void broken(fmt::format_string<T...> format, T&&... values) {
    throw Error{Code::invalid_xml, fmt::format(format, std::forward<T>(values)...)};
}

void check_threads(const DomainConfig& config) {
    const auto& tune = *config.cputune;
    const auto each_once = [](const char* element, const auto& list, const auto& set_of, const auto& exists) {
        std::set<std::uint32_t> seen;
        for (const auto& one : list)
            for (const auto id : set_of(one)) {
                if (!exists(id)) broken("<{}>: there is no thread {}", element, id);
                if (!seen.insert(id).second) broken("<{}>: thread {} is named twice", element, id);
            }
    };
    const auto is_vcpu = [&](std::uint32_t id) { return id < *config.vcpu; };
    const auto is_iothread = [&](std::uint32_t id) { return has_iothread(config, id); };
    const auto set_of = [](const SchedulerClass& sched) {
        return sched.set ? sched.set->numbers : decltype(sched.set->numbers){};
    };
    each_once("vcpusched", tune.vcpu_schedulers, set_of, is_vcpu);
    each_once("iothreadsched", tune.iothread_schedulers, set_of, is_iothread);
    each_once("vcpupin", tune.vcpu_pins, [](auto& pin) { return std::array{pin.vcpu}; }, is_vcpu);
    each_once("iothreadpin", tune.iothread_pins, [](auto& pin) { return std::array{pin.iothread}; }, is_iothread);
}

void check_disks(const BlkioTune& tune) {
    std::set<std::string> paths;
    for (const auto& device : tune.devices)
        if (!paths.insert(device.path).second) broken("<blkiotune>: '{}' is named twice", device.path);
}

void check_cells(const DomainConfig& config) {
    std::set<std::uint32_t> cells;
    for (const auto& node : config.numatune->memnodes)
        if (!cells.insert(node.cellid).second) broken("<memnode>: cell {} is named twice", node.cellid);
}

}  // namespace

void check_tuning(const DomainConfig& config) {
    if (config.cputune) check_threads(config);
    if (config.numatune) check_cells(config);
    if (config.blkiotune) check_disks(*config.blkiotune);
}

}  // namespace virtbus::xml
