// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/helpers/pr_helper.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "qemu/image_levels.hpp"
#include "qemu/opening.hpp"

namespace virtbus::qemu {

namespace {

constexpr int pause_ms = 2;  // between two tries to reach it

[[noreturn]] void fail(const std::string& why) {
    throw Error{Code::hypervisor_failed, why};
}

/// It makes its socket itself and tells nobody when.
Fd reach(const std::string& path, const Fd& process, Deadline deadline) {
    while (true) {
        try {
            return connect_to(path);
        } catch (const Error&) {
            pollfd state{process.get(), POLLIN, 0};
            if (::poll(&state, 1, pause_ms) == 1) fail("it ended");
        }
        if (std::chrono::steady_clock::now() > deadline) return Fd{};
    }
}

/// It speaks first: the features it has, of which none are defined.
void require_helper(const std::string& path, const Fd& process, Duration patience) {
    const auto deadline = in(patience);
    const auto fd = reach(path, process, deadline);
    const auto left = std::chrono::ceil<Duration>(deadline - std::chrono::steady_clock::now());
    pollfd state{fd.get(), POLLIN, 0};
    if (!fd || left.count() <= 0 || ::poll(&state, 1, static_cast<int>(left.count())) != 1)
        fail(fmt::format("it did not answer within {} ms", patience.count()));
    std::uint32_t features = 1;
    const auto got = ::recv(fd.get(), &features, sizeof features, MSG_DONTWAIT);
    if (got <= 0) fail("it ended");
    if (got != sizeof features || features != 0) fail("what it says is no greeting of a reservation helper");
}

/// The folder of a machine that runs is its user's, who must reach what is made there. Whatever that user puts there in
/// its place stays as it is.
void give_to_owner_of(const std::string& folder, const std::string& path) {
    struct stat owner{}, facts{};
    const Fd made{::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
    const bool plain = ::stat(folder.c_str(), &owner) == 0 && made && ::fstat(made.get(), &facts) == 0 &&
                       S_ISSOCK(facts.st_mode) && facts.st_nlink == 1;
    if (!plain) fail("its socket is not where it should be");
    if (facts.st_uid != owner.st_uid && ::fchownat(made.get(), "", owner.st_uid, owner.st_gid, AT_EMPTY_PATH) != 0)
        fail(fmt::format("its socket cannot be given to the machine: {}", std::strerror(errno)));
}

bool is_ours(const std::string& folder) {
    struct stat facts{};
    return ::stat(folder.c_str(), &facts) == 0 && facts.st_uid == ::geteuid();
}

}  // namespace

std::string reservations_at(const std::string& folder) {
    return folder + "/pr-helper0.sock";
}

const Disk* disk_with_managed_reservations(const DomainConfig& config) {
    const auto wants_helper = [](const ImageLevel& level) {
        return level.type == StorageType::block && level.source && level.source->reservations &&
               level.source->reservations->managed.value_or(false);
    };
    for (const auto& disk : config.devices.disks) {
        try {
            if (std::ranges::any_of(written_levels(disk).levels, wants_helper)) return &disk;
        } catch (const Error&) {
            // A chain that cannot be read is told where its images are opened.
        }
    }
    return nullptr;
}

Task<std::string> ReservationHelper::run_at(const HelperOrder& order, std::string alias, std::string program,
                                            std::string path) {
    UnitRequest request;
    request.helper = "pr_helper";
    request.description = fmt::format("Disk reservations of virtual machine {}", order.domain);
    request.argv = {std::move(program), "-k", path};
    // Commands that reserve are for those who may do raw input and output, those to multipath maps for the system's
    // administrator. The rest is what it takes to give up all others, which it does at its start and insists on.
    request.capabilities =
        1ULL << CAP_SYS_RAWIO | 1ULL << CAP_SYS_ADMIN | 1ULL << CAP_SETPCAP | 1ULL << CAP_SETUID | 1ULL << CAP_SETGID;
    if (!is_ours(order.folder)) request.capabilities |= 1ULL << CAP_DAC_OVERRIDE;  // it makes its socket there
    request.shared = {order.folder};
    request.devices = {"/dev/mapper/control"};
    co_await run(order, {.program = "qemu-pr-helper", .alias = std::move(alias)}, std::move(request));
    co_await converse(order,
                      [path, folder = order.folder, process = std::make_shared<Fd>(pidfd()), patience = times_.answer] {
                          require_helper(path, *process, patience);
                          give_to_owner_of(folder, path);
                      });
    co_return path;
}

Task<std::string> ReservationHelper::start(HelperOrder order, std::string alias, std::string program) {
    co_return co_await or_undo(run_at(order, std::move(alias), std::move(program), reservations_at(order.folder)));
}

}  // namespace virtbus::qemu
