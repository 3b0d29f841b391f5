// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/helpers/helpers.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "qemu/guest.hpp"
#include "qemu/helpers/passt.hpp"
#include "qemu/helpers/pr_helper.hpp"
#include "qemu/helpers/virtiofsd.hpp"

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

Task<> start_file_servers(std::shared_ptr<GuestCore> core, const HelperPrograms& programs, HelperOrder order,
                          OpenedResources& opened) {
    for (const auto& filesystem : core->config.devices.filesystems) {
        if (!needs_file_server(filesystem)) continue;
        const auto& alias = filesystem.info.alias;
        const auto program = find_virtiofsd(core->ports.files, programs.vhost_user_folders, filesystem);
        const auto server = std::make_shared<FileServer>(core->ports, programs.times);
        opened.files["fs:" + alias].fd =
            co_await server->start(with_log(order, alias + "-virtiofsd"), filesystem, program);
        core->take_helper(server);
    }
}

Task<> start_reservation_helper(std::shared_ptr<GuestCore> core, const HelperPrograms& programs, HelperOrder order,
                                OpenedResources& opened) {
    const Disk* disk = disk_with_managed_reservations(core->config);
    if (!disk) co_return;
    const auto helper = std::make_shared<ReservationHelper>(core->ports, programs.times);
    opened.files["pr-helper"].path =
        co_await helper->start(with_log(std::move(order), "pr-helper"), disk->info.alias, programs.pr_helper);
    core->take_helper(helper);
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
    for (const auto& filesystem : config.devices.filesystems) {
        if (!needs_file_server(filesystem)) continue;
        try {
            find_virtiofsd(files, programs.vhost_user_folders, filesystem);
        } catch (const Error& error) {
            problems.emplace_back(error.what());
        }
    }
    return problems;
}

Task<> start_helpers(std::shared_ptr<GuestCore> core, const HelperPrograms& programs, HelperOrder order,
                     OpenedResources& opened) {
    co_await start_tpm(core, programs.swtpm, order, opened);
    co_await start_file_servers(core, programs, order, opened);
    co_await start_reservation_helper(core, programs, order, opened);
    co_await start_helpers_for(core, core->config, programs, order, opened);
}

Task<> start_helpers_for(std::shared_ptr<GuestCore> core, const DomainConfig& config, const HelperPrograms& programs,
                         HelperOrder order, OpenedResources& opened) {
    // The helper for reservations runs since the machine's start, or the disk is refused.
    const bool reserves = std::ranges::any_of(
        core->helpers, [](auto& each) { return each->record().program == "qemu-pr-helper" && each->is_running(); });
    if (reserves && disk_with_managed_reservations(config))
        opened.files["pr-helper"].path = reservations_at(order.folder);
    for (const auto& interface : config.devices.interfaces) {
        if (!needs_passt(interface)) continue;
        const auto& alias = interface.info.alias;
        const auto network = std::make_shared<UserNetwork>(core->ports, programs.times);
        opened.files["passt:" + alias].fd =
            co_await network->start(with_log(order, alias + "-passt"), interface, programs.passt);
        core->take_helper(network);
    }
}

Task<> end_helper_of(std::shared_ptr<GuestCore> core, std::string alias) {
    const auto serves = [&](const HelperRecord& record) { return record.alias == alias && record.program == "passt"; };
    const auto found = std::ranges::find_if(core->helpers, [&](auto& each) { return serves(each->record()); });
    if (found == core->helpers.end()) co_return;
    const auto helper = *found;
    core->helpers.erase(found);
    std::erase_if(core->record.helpers, serves);
    co_await helper->undo();
}

}  // namespace virtbus::qemu
