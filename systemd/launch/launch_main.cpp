// SPDX-License-Identifier: LGPL-2.1-or-later
// virtbus-launch: receives a launch order on its standard input, puts the descriptors in place, narrows itself and
// becomes the guest's program. It runs under a system manager as the main process of the guest's unit, or as a process
// of its own without one.
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "launch/protocol.hpp"
#include "virtbus/error.hpp"

namespace {

using virtbus::Code;
using virtbus::Error;
using virtbus::systemd::Account;
using virtbus::systemd::LaunchOrder;

void require(bool ok, const std::string& what) {
    if (!ok) throw Error{Code::internal, what + ": " + std::strerror(errno)};
}

void reset_signals() {
    // By the system call: libc keeps two real-time signals to itself and would leave them ignored if they came so.
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)();
        std::uint64_t mask;
    } const unset{};
    for (int signal = 1; signal <= 64; ++signal)  // some cannot be set; that is fine
        ::syscall(SYS_rt_sigaction, signal, &unset, nullptr, sizeof unset.mask);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
}

/// Out of the way of every number that will be taken.
int move_above(int fd, int least) {
    const int moved = ::fcntl(fd, F_DUPFD_CLOEXEC, least);
    require(moved >= 0, "Moving a descriptor");
    return moved;
}

void set_limits(std::uint64_t memory_locked) {
    rlimit files{};
    require(::getrlimit(RLIMIT_NOFILE, &files) == 0, "Reading the limit of open files");
    files.rlim_cur = std::min<rlim_t>(files.rlim_max, 65536);
    require(::setrlimit(RLIMIT_NOFILE, &files) == 0, "Raising the limit of open files");
    if (!memory_locked) return;
    const rlimit locked{memory_locked, memory_locked};
    require(::setrlimit(RLIMIT_MEMLOCK, &locked) == 0,
            "Raising the limit of locked memory to " + std::to_string(memory_locked) + " bytes");
}

void place_descriptors(LaunchOrder& order) {
    // Nothing that was inherited reaches the guest: only what is put in place below loses its close-on-exec flag.
    require(::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) == 0, "Marking the inherited descriptors");
    int above = 3;
    for (const auto& [here, there] : order.fds) above = std::max(above, there + 1);
    order.report = move_above(order.report, above);
    if (order.output >= 0) order.output = move_above(order.output, above);
    for (auto& [here, there] : order.fds) here = move_above(here, above);
    for (const auto& [here, there] : order.fds) require(::dup2(here, there) == there, "Placing a descriptor");
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    require(null >= 0 && ::dup2(null, STDIN_FILENO) == STDIN_FILENO, "Opening /dev/null");
    if (order.output < 0) return;
    require(::dup2(order.output, STDOUT_FILENO) >= 0 && ::dup2(order.output, STDERR_FILENO) >= 0, "Placing the output");
}

void become(const Account& account) {
    require(::setgroups(account.groups.size(), account.groups.data()) == 0, "Setting the groups");
    require(::setresgid(account.gid, account.gid, account.gid) == 0, "Changing the group");
    require(::setresuid(account.uid, account.uid, account.uid) == 0, "Changing the user");
}

std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> result;
    for (auto& word : words) result.push_back(word.data());
    result.push_back(nullptr);
    return result;
}

[[noreturn]] void launch(LaunchOrder& order) {
    virtbus::systemd::send_started(order.report);
    ::setsid();  // fails for a group leader, which is in a session of its own already
    reset_signals();
    ::umask(0077);
    require(::chdir("/") == 0, "Changing to /");
    set_limits(order.memory_locked);
    place_descriptors(order);
    require(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "Setting no_new_privs");
    if (order.account) become(*order.account);
    auto argv = pointers(order.argv);
    auto environment = pointers(order.environment);
    ::execve(argv.front(), argv.data(), environment.data());
    throw Error{Code::hypervisor_failed, "Running " + order.argv.front() + " failed: " + std::strerror(errno)};
}

}  // namespace

int main() {
    std::signal(SIGPIPE, SIG_IGN);
    virtbus::systemd::ReceivedOrder received;
    try {
        received = virtbus::systemd::receive_order(STDIN_FILENO);
        launch(received.order);
    } catch (const std::exception& error) {
        const std::string_view text{error.what()};
        const int report = received.order.report;
        if (report < 0 || ::send(report, text.data(), std::min<std::size_t>(text.size(), 4096), MSG_NOSIGNAL) < 0)
            std::fprintf(stderr, "virtbus-launch: %s\n", error.what());
        return EXIT_FAILURE;
    }
}
