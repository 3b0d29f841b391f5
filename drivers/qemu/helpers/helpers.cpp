// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/helpers/helpers.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "qemu/guest.hpp"
#include "qemu/helpers/gpu.hpp"
#include "qemu/helpers/passt.hpp"
#include "qemu/helpers/pr_helper.hpp"
#include "qemu/helpers/virtiofsd.hpp"
#include "qemu/starter.hpp"
#include "virtbus/model/device_lists.hpp"

namespace virtbus::qemu {

namespace {

HelperOrder with_log(HelperOrder order, const std::string& end) {
    order.log += "-" + end + ".log";
    return order;
}

Task<> start_tpm(std::shared_ptr<GuestCore> core, const TpmProgram& program, HelperOrder order,
                 OpenedResources& opened) {
    const Tpm* tpm = emulated_tpm(core->config);
    if (!tpm) co_return;
    const auto emulator = std::make_shared<TpmEmulator>(core->ports, program);
    opened.files["tpm:" + tpm->info.alias].fd = co_await emulator->start(with_log(std::move(order), "swtpm"), *tpm);
    core->take_helper(emulator);
}

Task<> start_file_servers(std::shared_ptr<GuestCore> core, const DomainConfig& config, const HelperPrograms& programs,
                          HelperOrder order, OpenedResources& opened) {
    for (const auto& filesystem : config.devices.filesystems) {
        if (!needs_file_server(filesystem)) continue;
        const auto& alias = filesystem.info.alias;
        const auto program = find_virtiofsd(core->ports.files, programs.vhost_user_folders, filesystem);
        const auto server = std::make_shared<FileServer>(core->ports, programs.times);
        opened.files["fs:" + alias].fd =
            co_await server->start(with_log(order, alias + "-virtiofsd"), filesystem, program);
        core->take_helper(server);
    }
}

Task<> start_user_networks(std::shared_ptr<GuestCore> core, const DomainConfig& config, const HelperPrograms& programs,
                           HelperOrder order, OpenedResources& opened) {
    for (const auto& interface : config.devices.interfaces) {
        if (!needs_passt(interface)) continue;
        const auto& alias = interface.info.alias;
        const auto network = std::make_shared<UserNetwork>(core->ports, programs.times);
        opened.files["passt:" + alias].fd =
            co_await network->start(with_log(order, alias + "-passt"), interface, programs.passt);
        core->take_helper(network);
    }
}

Task<> start_graphics_servers(std::shared_ptr<GuestCore> core, const HelperPrograms& programs, HelperOrder order,
                              OpenedResources& opened) {
    for (const auto& video : core->config.devices.videos) {
        if (!needs_graphics_server(video)) continue;
        const auto& alias = video.info.alias;
        const auto program = find_graphics_server(core->ports.files, programs.vhost_user_folders, video);
        const auto server = std::make_shared<GraphicsServer>(core->ports, programs.times);
        opened.files["gpu:" + alias].fd = co_await server->start(with_log(order, alias + "-gpu"), video, program);
        core->take_helper(server);
    }
}

// ---- the helper for reservations: one for all disks

constexpr std::string_view reservations_program = "qemu-pr-helper";

bool has_reservation_helper(const GuestCore& core) {
    return std::ranges::any_of(
        core.helpers, [](auto& each) { return each->record().program == reservations_program && each->is_running(); });
}

Task<std::string> run_reservation_helper(std::shared_ptr<GuestCore> core, HelperOrder order, std::string alias) {
    const auto& programs = *core->programs;
    const auto helper = std::make_shared<ReservationHelper>(core->ports, programs.times);
    auto path = co_await helper->start(std::move(order), std::move(alias), programs.pr_helper);
    core->take_helper(helper);
    co_return path;
}

Task<> start_reservation_helper(std::shared_ptr<GuestCore> core, const DomainConfig& config, HelperOrder order,
                                OpenedResources& opened) {
    constexpr Duration pause{20};
    const Disk* disk = disk_with_managed_reservations(config);
    if (!disk) co_return;
    auto alias = disk->info.alias;
    while (core->renewing) co_await sleep(core->ports.loop, pause);
    auto& path = opened.files["pr-helper"].path;
    path = reservations_at(order.folder);
    if (!has_reservation_helper(*core))
        path = co_await run_reservation_helper(core, with_log(std::move(order), "pr-helper"), std::move(alias));
}

// ---- whom they serve

/// The alias of a device, there or on its way, that the helper is needed for; "" for none.
std::string served_by(const GuestCore& core, const HelperRecord& record) {
    DomainConfig coming;
    for (const auto& device : core.plugging) (void)add_device(coming, device);
    for (const auto* config : {&core.config, static_cast<const DomainConfig*>(&coming)}) {
        if (record.program != reservations_program) {
            if (find_alias(config->devices, record.alias)) return record.alias;
        } else if (const Disk* disk = disk_with_managed_reservations(*config)) {
            return disk->info.alias;
        }
    }
    return {};
}

void forget(GuestCore& core, const std::shared_ptr<HelperUnit>& helper) {
    const auto record = helper->record();
    std::erase(core.helpers, helper);
    std::erase_if(core.record.helpers,
                  [&](auto& each) { return each.alias == record.alias && each.pid == record.pid; });
}

/// One that dies again and again is left dead.
bool may_renew(GuestCore& core) {
    constexpr std::size_t most = 3;
    constexpr std::chrono::minutes within{10};
    const auto now = std::chrono::steady_clock::now();
    std::erase_if(core.renewals, [&](Deadline at) { return at + within < now; });
    return core.renewals.size() < most;
}

/// QEMU connects to its socket again with the next command that reserves.
Task<> renew_reservation_helper(std::shared_ptr<GuestCore> core, std::string alias, std::string log) {
    core->renewals.push_back(std::chrono::steady_clock::now());
    core->renewing = true;
    std::exception_ptr failure;
    try {
        auto order = helper_order(*core, nullptr, core->verb_deadline(), {});
        order.log = std::move(log);
        co_await run_reservation_helper(core, std::move(order), std::move(alias));
    } catch (...) {
        failure = std::current_exception();
    }
    core->renewing = false;
    core->tell_config();
    if (failure) std::rethrow_exception(failure);
}

Task<std::string> words_of(std::shared_ptr<GuestCore> core, HelperRecord record) {
    try {
        co_return co_await core->ports.workers.run(
            "reading the log", [record] { return HelperUnit::last_words(record); }, in(Duration{2000}));
    } catch (const Error&) {
        co_return std::string{};
    }
}

void log_warning(const GuestCore& core, const std::string& message) {
    core.ports.log.warning(message, {{"DOMAIN", core.config.name}, {"DOMAIN_UUID", core.config.uuid}});
}

std::string passt_problem(const DomainConfig& config, const std::string& program) {
    const auto found = std::ranges::find_if(config.devices.interfaces, needs_passt);
    if (found == config.devices.interfaces.end() || ::access(program.c_str(), X_OK) == 0) return {};
    return fmt::format(
        "interface '{}': {} is not installed (package passt); without <backend type='passt'/> QEMU's "
        "own user network is used",
        found->mac, program);
}

}  // namespace

std::vector<std::string> helper_problems(const DomainConfig& config, const HelperPrograms& programs, Files& files) {
    std::vector<std::string> problems;
    if (auto problem = tpm_problem(config, programs.swtpm); !problem.empty()) problems.push_back(std::move(problem));
    if (auto problem = passt_problem(config, programs.passt); !problem.empty()) problems.push_back(std::move(problem));
    if (const Disk* disk = disk_with_managed_reservations(config);
        disk && ::access(programs.pr_helper.c_str(), X_OK) != 0)
        problems.push_back(
            fmt::format("disk '{}': the reservation helper {} is not installed (package "
                        "qemu-system-common)",
                        disk->target.dev, programs.pr_helper));
    const auto note = [&](auto find, const auto& device) {
        try {
            find(files, programs.vhost_user_folders, device);
        } catch (const Error& error) {
            problems.emplace_back(error.what());
        }
    };
    for (const auto& filesystem : config.devices.filesystems)
        if (needs_file_server(filesystem)) note(find_virtiofsd, filesystem);
    for (const auto& video : config.devices.videos)
        if (needs_graphics_server(video)) note(find_graphics_server, video);
    return problems;
}

Task<> start_helpers(std::shared_ptr<GuestCore> core, const HelperPrograms& programs, HelperOrder order,
                     OpenedResources& opened) {
    co_await start_tpm(core, programs.swtpm, order, opened);
    co_await start_graphics_servers(core, programs, order, opened);
    co_await start_helpers_for(core, core->config, programs, order, opened);
}

Task<> start_helpers_for(std::shared_ptr<GuestCore> core, const DomainConfig& config, const HelperPrograms& programs,
                         HelperOrder order, OpenedResources& opened) {
    co_await start_file_servers(core, config, programs, order, opened);
    co_await start_reservation_helper(core, config, order, opened);
    co_await start_user_networks(core, config, programs, order, opened);
}

Task<> end_idle_helpers(std::shared_ptr<GuestCore> core) {
    std::vector<std::shared_ptr<HelperUnit>> idle;
    for (const auto& helper : core->helpers)
        if (served_by(*core, helper->record()).empty()) idle.push_back(helper);
    for (const auto& helper : idle) {
        const bool reservations = helper->record().program == reservations_program;
        forget(*core, helper);
        co_await helper->undo();
        if (reservations && !has_reservation_helper(*core))
            core->ports.files.remove_volatile(reservations_at(guest_sockets(core->record)));
    }
    if (!idle.empty() && !core->is_gone()) core->tell_config();
}

// It leaves when QEMU or its device does, and its end may be seen first: only of a guest that goes on with that device
// it is news.
Task<> helper_ended(std::shared_ptr<GuestCore> core, std::shared_ptr<HelperUnit> helper) {
    if (co_await core->wait_gone(in(Duration{1000})) || core->is_detached()) co_return;
    const auto record = helper->record();
    const auto role = helper_role(record.program);
    const auto words = co_await words_of(core, record);
    forget(*core, helper);
    co_await helper->end();
    const auto alias = served_by(*core, record);
    if (alias.empty() || core->is_gone() || core->is_detached()) co_return;
    auto reason = fmt::format("the {} has ended{}{}", role, words.empty() ? "" : ": ", words);
    if (record.program == reservations_program) {
        if (has_reservation_helper(*core)) co_return;
        try {
            if (may_renew(*core)) {
                co_await renew_reservation_helper(core, alias, record.log);
                log_warning(*core, fmt::format("{}: {}; it was started again", core->who(), reason));
                co_return;
            }
            reason += "; it does so again and again and is not started any more";
        } catch (const Error& error) {
            reason += fmt::format("; it could not be started again: {}", error.what());
        }
    }
    log_warning(*core, fmt::format("{} goes on without its {}: {}", core->who(), role, reason));
    core->tell_trouble(alias, reason);
    core->tell_config();
}

}  // namespace virtbus::qemu
