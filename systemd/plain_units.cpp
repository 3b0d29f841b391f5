// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plain_units.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>

#include "launch/launch.hpp"
#include "process.hpp"
#include "virtbus/error.hpp"
#include "virtbus/reply.hpp"

namespace virtbus::systemd {

namespace {

Fd pidfd_of(pid_t pid) {
    return Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
}

/// nullopt while it runs; unknown when it is nobody's child here.
std::optional<ExitStatus> reap(pid_t pid) {
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG) < 0) return ExitStatus{};
    if (info.si_pid != pid) return std::nullopt;
    if (info.si_code == CLD_EXITED) return ExitStatus{true, info.si_status, 0};
    return ExitStatus{true, 0, info.si_status};
}

struct SpawnActions {
    SpawnActions() {
        posix_spawn_file_actions_init(&files);
        posix_spawnattr_init(&attributes);
    }
    ~SpawnActions() {
        posix_spawn_file_actions_destroy(&files);
        posix_spawnattr_destroy(&attributes);
    }
    SpawnActions(const SpawnActions&) = delete;
    SpawnActions& operator=(const SpawnActions&) = delete;
    posix_spawn_file_actions_t files{};
    posix_spawnattr_t attributes{};
};

}  // namespace

PlainUnits::PlainUnits(Loop& loop, std::string launcher, std::optional<Account> account)
    : loop_{loop},
      launcher_{std::move(launcher)},
      account_{std::move(account)},
      dying_{std::make_shared<std::map<pid_t, Dying>>()} {}

Task<Unit> PlainUnits::start(UnitRequest request, Deadline deadline, std::stop_token stop) {
    // A service of the host that would lose its capabilities with root changes its user itself.
    const bool changes_itself = !request.account.empty();
    const auto owner = !changes_itself ? account_ : ::geteuid() == 0 ? find_account(request.account) : std::nullopt;
    if (owner) hand_over(request.writable, *owner);
    if (account_) give_nodes(request.given, *account_);
    Launch launch{loop_, request, changes_itself ? std::nullopt : account_of(request, account_)};
    const pid_t child = spawn(launch.standard_input());
    launch.release_standard_input();
    std::exception_ptr failure;
    try {
        co_await launch.wait(deadline, std::move(stop));
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure) {
        end(child);
        std::rethrow_exception(failure);
    }
    co_return Unit{launch.started().pid, std::move(launch.started().pidfd), {}};
}

pid_t PlainUnits::spawn(int standard_input) const {
    SpawnActions actions;
    posix_spawn_file_actions_adddup2(&actions.files, standard_input, STDIN_FILENO);
    posix_spawn_file_actions_addopen(&actions.files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions.files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_setflags(&actions.attributes, POSIX_SPAWN_SETSID);
    auto program = launcher_;
    std::array<char*, 2> argv{program.data(), nullptr};
    std::array<char*, 1> environment{nullptr};
    pid_t pid = -1;
    const int error =
        ::posix_spawn(&pid, program.c_str(), &actions.files, &actions.attributes, argv.data(), environment.data());
    if (error) throw Error{Code::internal, fmt::format("Running {} failed: {}", launcher_, std::strerror(error))};
    return pid;
}

void PlainUnits::end(pid_t child) {
    auto pidfd = pidfd_of(child);
    signal_process(pidfd, SIGKILL);
    const int fd = pidfd.get();
    if (fd < 0) return;
    auto watch = loop_.watch(fd, readable, [&loop = loop_, dying = std::weak_ptr{dying_}, child](unsigned) {
        reap(child);
        loop.post([dying, child] {  // not from inside its own watch
            if (const auto all = dying.lock()) all->erase(child);
        });
    });
    dying_->insert_or_assign(child, Dying{std::move(pidfd), std::move(watch)});
}

std::optional<Unit> PlainUnits::adopt(std::uint32_t pid, std::uint64_t start_time, const std::string&) {
    return find_process(pid, start_time, {});
}

void PlainUnits::kill(const Unit& unit, bool graceful) {
    // The group is the process's own (it leads a session); its number is safe while the process itself is there.
    const bool there = unit.pidfd && ::syscall(SYS_pidfd_send_signal, unit.pidfd.get(), 0, nullptr, 0) == 0;
    if (there && !graceful) ::kill(-static_cast<pid_t>(unit.pid), SIGKILL);
    signal_process(unit.pidfd, graceful ? SIGTERM : SIGKILL);
}

Task<ExitStatus> PlainUnits::exit_status(std::string, std::uint32_t pid, Deadline deadline) {
    const auto child = static_cast<pid_t>(pid);
    if (auto status = reap(child)) co_return *status;
    const auto pidfd = pidfd_of(child);
    Reply<> reply{loop_};
    const auto watch = loop_.watch(pidfd.get(), readable, [promise = reply.promise()](unsigned) { promise.set(); });
    co_await reply.wait(fmt::format("The end of process {}", pid), deadline);
    co_return reap(child).value_or(ExitStatus{});
}

/// Nothing keeps a plain process from a node but whose it is.
Task<> PlainUnits::allow(std::string, std::uint32_t pid, UnitGrant grant, Deadline) {
    if (account_) give_nodes(grant.given, *account_);
    let_lock(pid, grant.memory_locked);
    co_return;
}

Task<> PlainUnits::deny(std::string, UnitGrant grant, Deadline) {
    if (account_) take_nodes(grant.given, *account_);
    co_return;
}

}  // namespace virtbus::systemd
