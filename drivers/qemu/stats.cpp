// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/stats.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "qemu/json.hpp"
#include "qemu/live_config.hpp"
#include "qemu/proc.hpp"

namespace virtbus::qemu {

using nlohmann::json;

namespace {

// ---- state, in libvirt's numbers

std::uint32_t state_number(State state) {
    switch (state) {
        case State::running:
        case State::starting:
            return 1;
        case State::paused:
            return 3;
        case State::shutdown:
            return 4;
        case State::shutoff:
            return 5;
        case State::crashed:
            return 6;
        case State::pmsuspended:
            return 7;
    }
    return 0;
}

struct ReasonNumber {
    State state;
    std::string_view reason;
    std::uint32_t number;
};
constexpr ReasonNumber reason_numbers[] = {
    {State::running, "booted", 1},        {State::running, "migrated", 2},     {State::running, "restored", 3},
    {State::running, "from-snapshot", 4}, {State::running, "unpaused", 5},     {State::running, "wakeup", 8},
    {State::paused, "user", 1},           {State::paused, "migration", 2},     {State::paused, "save", 3},
    {State::paused, "dump", 4},           {State::paused, "io-error", 5},      {State::paused, "watchdog", 6},
    {State::paused, "from-snapshot", 7},  {State::paused, "shutting-down", 8}, {State::paused, "snapshot", 9},
    {State::paused, "crashed", 10},       {State::paused, "starting-up", 11},  {State::shutdown, "user", 1},
    {State::crashed, "panicked", 1},
};

void add_state(const GuestCore& core, Stats& stats) {
    const auto state = core.life.state();
    const auto& reason = core.life.reason();
    const auto found = std::ranges::find_if(
        reason_numbers, [&](const auto& each) { return each.state == state && each.reason == reason; });
    stats["state.state"] = state_number(state);
    stats["state.reason"] = found == std::end(reason_numbers) ? std::uint32_t{0} : found->number;
}

void add_cpu(const GuestCore& core, Stats& stats) {
    const auto counted = read_proc_stat(fmt::format("/proc/{}/stat", core.record.pid));
    if (!counted) return;
    stats["cpu.time"] = counted->user + counted->system;
    stats["cpu.user"] = counted->user;
    stats["cpu.system"] = counted->system;
}

// ---- memory; libvirt counts it in KiB

void add_balloon(const GuestCore& core, const json& balloon, Stats& stats) {
    const auto maximum = core.config.memory.value_or(0);
    const auto current = number(balloon, "actual", core.config.current_memory.value_or(maximum));
    stats["balloon.current"] = current / 1024;
    stats["balloon.maximum"] = maximum / 1024;
    stats["balloon.rss"] = read_resident(core.record.pid) / 1024;
}

// The guest's own numbers, as far as its driver tells them.
void add_guest_memory(const json& answer, Stats& stats) {
    static constexpr std::pair<const char*, const char*> names[] = {
        {"stat-swap-in", "swap_in"},          {"stat-swap-out", "swap_out"},       {"stat-major-faults", "major_fault"},
        {"stat-minor-faults", "minor_fault"}, {"stat-free-memory", "unused"},      {"stat-total-memory", "available"},
        {"stat-available-memory", "usable"},  {"stat-disk-caches", "disk_caches"},
    };
    const auto& values = member(answer, "stats");
    for (const auto& [theirs, ours] : names) {
        // A counter it does not have is all ones; faults are counts, the rest bytes.
        const auto value = number(values, theirs, ~std::uint64_t{0});
        const bool is_count = std::string_view{theirs}.ends_with("-faults");
        if (value != ~std::uint64_t{0}) stats[fmt::format("balloon.{}", ours)] = is_count ? value : value / 1024;
    }
    if (const auto update = number(answer, "last-update")) stats["balloon.last-update"] = update;
}

// ---- processors

void add_vcpus(const GuestCore& core, const json& cpus, Stats& stats) {
    std::uint32_t current = 0;
    for (const auto& cpu : cpus) {
        const auto index = number(cpu, "cpu-index"), thread = number(cpu, "thread-id");
        ++current;
        stats[fmt::format("vcpu.{}.state", index)] = std::uint32_t{core.life.state() == State::running ? 1U : 0U};
        if (const auto counted = read_proc_stat(fmt::format("/proc/{}/task/{}/stat", core.record.pid, thread)))
            stats[fmt::format("vcpu.{}.time", index)] = counted->user + counted->system;
    }
    const auto maximum = core.config.vcpu.value_or(1);
    stats["vcpu.current"] = current ? current : core.config.vcpu_current.value_or(maximum);
    stats["vcpu.maximum"] = maximum;
}

// ---- interfaces

void add_interfaces(const GuestCore& core, Stats& stats) {
    const auto devices = read_device_counters();
    std::uint64_t index = 0;
    for (const auto& interface : core.config.devices.interfaces) {
        const auto prefix = fmt::format("net.{}", index++);
        const auto name = interface.target ? interface.target->dev : std::string{};
        if (!name.empty()) stats[prefix + ".name"] = name;
        const auto found = devices.find(name);
        if (found == devices.end()) continue;
        // What the host's end of a tap sends is what the guest receives; a macvtap shows the guest's side.
        const bool swapped = actual_type(interface) != InterfaceType::direct;
        static constexpr const char* words[] = {"bytes", "pkts", "errs", "drop"};
        for (std::size_t i = 0; i < 4; ++i) {
            stats[fmt::format("{}.rx.{}", prefix, words[i])] =
                (swapped ? found->second.sent : found->second.received).at(i);
            stats[fmt::format("{}.tx.{}", prefix, words[i])] =
                (swapped ? found->second.received : found->second.sent).at(i);
        }
    }
    stats["net.count"] = index;
}

// ---- disks

struct BlockAnswers {
    json counters, blocks;
};

const json& block_of(const json& list, const std::string& alias) {
    static const json nothing;
    for (const auto& block : list)
        if (alias_of_path(text(block, "qdev"), {}) == alias) return block;
    return nothing;
}

void add_disk_counters(const std::string& prefix, const json& counters, Stats& stats) {
    static constexpr std::pair<const char*, const char*> names[] = {
        {"rd_operations", "rd.reqs"},     {"rd_bytes", "rd.bytes"},
        {"rd_total_time_ns", "rd.times"}, {"wr_operations", "wr.reqs"},
        {"wr_bytes", "wr.bytes"},         {"wr_total_time_ns", "wr.times"},
        {"flush_operations", "fl.reqs"},  {"flush_total_time_ns", "fl.times"},
    };
    for (const auto& [theirs, ours] : names)
        if (member(counters, theirs).is_number()) stats[fmt::format("{}.{}", prefix, ours)] = number(counters, theirs);
}

void add_disks(const GuestCore& core, const BlockAnswers& answers, Stats& stats) {
    std::uint64_t index = 0;
    for (const auto& disk : core.config.devices.disks) {
        const auto prefix = fmt::format("block.{}", index++);
        stats[prefix + ".name"] = disk.target.dev;
        if (disk.source) {
            const auto& path = !disk.source->file.empty() ? disk.source->file : disk.source->dev;
            if (!path.empty()) stats[prefix + ".path"] = path;
        }
        const auto& counted = block_of(answers.counters, disk.info.alias);
        add_disk_counters(prefix, member(counted, "stats"), stats);
        const auto& image = member(member(block_of(answers.blocks, disk.info.alias), "inserted"), "image");
        if (!image.is_object()) continue;
        stats[prefix + ".capacity"] = number(image, "virtual-size");
        stats[prefix + ".physical"] = number(image, "actual-size");
        // How far a growing image has been written; what it takes on the host where that is not counted.
        const auto highest = number(member(member(counted, "parent"), "stats"), "wr_highest_offset");
        stats[prefix + ".allocation"] = highest ? highest : number(image, "actual-size");
    }
    stats["block.count"] = index;
}

}  // namespace

Task<Stats> sample_stats(std::shared_ptr<GuestCore> core, std::stop_token stop) {
    std::optional<Monitor::Answer> balloon, memory;
    auto& monitor = core->open_monitor();
    const auto& balloon_device = core->config.devices.memballoon;
    if (balloon_device && balloon_device->model != "none") {
        balloon = monitor.send("query-balloon");
        if (!balloon_device->info.alias.empty())
            memory = monitor.send("qom-get", json{{"path", "/machine/peripheral/" + balloon_device->info.alias},
                                                  {"property", "guest-stats"}});
    }
    auto cpus = monitor.send("query-cpus-fast");
    auto counters = monitor.send("query-blockstats");
    auto blocks = monitor.send("query-block");
    const auto deadline = in(core->times.sample);
    Stats stats;
    add_state(*core, stats);
    add_cpu(*core, stats);
    add_interfaces(*core, stats);
    json actual;
    if (balloon) {
        try {
            actual = co_await balloon->get(deadline, stop);
            if (memory) add_guest_memory(co_await memory->get(deadline, stop), stats);
        } catch (const Error& error) {
            // Without a balloon driver in the guest there is no answer, and that is no failure.
            if (error.code() != Code::hypervisor_failed || !core->monitor->is_open()) throw;
        }
    }
    add_balloon(*core, actual, stats);
    add_vcpus(*core, co_await cpus.get(deadline, stop), stats);
    BlockAnswers answers;
    answers.counters = co_await counters.get(deadline, stop);
    answers.blocks = co_await blocks.get(deadline, stop);
    add_disks(*core, answers, stats);
    co_return stats;
}

}  // namespace virtbus::qemu
