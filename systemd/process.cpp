// SPDX-License-Identifier: LGPL-2.1-or-later
#include "process.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <memory>

#include "virtbus/error.hpp"

namespace virtbus::systemd {

namespace {

/// Field 22 of /proc/pid/stat. The second field is the program's name in brackets and may hold anything.
std::optional<std::uint64_t> start_time_of(std::uint32_t pid) {
    const Fd file{::open(fmt::format("/proc/{}/stat", pid).c_str(), O_RDONLY | O_CLOEXEC)};
    std::array<char, 4096> buffer{};
    const auto size = file ? ::read(file.get(), buffer.data(), buffer.size()) : -1;
    if (size <= 0) return std::nullopt;
    std::string_view text{buffer.data(), static_cast<std::size_t>(size)};
    const auto name_end = text.rfind(')');
    if (name_end == std::string_view::npos) return std::nullopt;
    text.remove_prefix(name_end);
    for (int field = 2; field < 22; ++field) {
        const auto space = text.find(' ');
        if (space == std::string_view::npos) return std::nullopt;
        text.remove_prefix(space + 1);
    }
    std::uint64_t time = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), time).ec != std::errc{}) return std::nullopt;
    return time;
}

bool ended(const Fd& pidfd) {
    pollfd state{pidfd.get(), POLLIN, 0};
    return ::poll(&state, 1, 0) != 0;
}

}  // namespace

std::optional<Unit> find_process(std::uint32_t pid, std::uint64_t start_time, const std::string& unit) {
    if (!pid) return std::nullopt;
    Fd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
    if (!pidfd || start_time_of(pid) != start_time || ended(pidfd)) return std::nullopt;
    return Unit{pid, std::move(pidfd), unit};
}

void signal_process(const Fd& pidfd, int signal) {
    if (pidfd) ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0);
}

std::optional<Account> find_account(const std::string& user) {
    const auto* entry = ::getpwnam(user.c_str());
    if (!entry) return std::nullopt;
    std::array<gid_t, 256> groups{};
    int count = groups.size();
    if (::getgrouplist(user.c_str(), entry->pw_gid, groups.data(), &count) < 0) count = 0;
    return Account{entry->pw_uid, entry->pw_gid, {groups.begin(), groups.begin() + count}};
}

std::optional<Account> account_of(const UnitRequest& request, const std::optional<Account>& guests) {
    if (!request.account.empty()) return find_account(request.account);
    return request.capabilities ? std::nullopt : guests;
}

namespace {

/// What an earlier user of guests left. Only files without a second name, which may be somewhere else.
void hand_over_files(const Fd& folder, const Account& account) {
    const int copy = ::openat(folder.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })> dir{copy < 0 ? nullptr : ::fdopendir(copy)};
    while (const auto* entry = dir ? ::readdir(dir.get()) : nullptr) {
        const Fd file{::openat(folder.get(), entry->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC)};
        struct stat facts{};
        const bool plain = file && ::fstat(file.get(), &facts) == 0 &&
                           (S_ISREG(facts.st_mode) || S_ISSOCK(facts.st_mode)) && facts.st_nlink == 1;
        if (plain && ::fchownat(file.get(), "", account.uid, account.gid, AT_EMPTY_PATH) < 0) return;
    }
}

}  // namespace

void hand_over(const std::vector<std::string>& folders, const Account& account) {
    for (const auto& path : folders) {
        const Fd folder{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
        struct stat facts{};
        const bool there = folder && ::fstat(folder.get(), &facts) == 0;
        if (there && facts.st_uid == account.uid && facts.st_gid == account.gid) continue;
        if (there) hand_over_files(folder, account);
        if (!there || ::fchown(folder.get(), account.uid, account.gid) < 0)
            throw Error{Code::internal,
                        fmt::format("Giving the folder {} to the user of the process: {}", path, std::strerror(errno))};
    }
}

namespace {

/// `hand` gets each node that is there.
template <class Hand>
void each_node(const std::vector<std::string>& nodes, Hand hand) {
    for (const auto& path : nodes) {
        const Fd node{::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC)};
        struct stat facts{};
        if (!node || ::fstat(node.get(), &facts) != 0) continue;
        if (!S_ISCHR(facts.st_mode))
            throw Error{Code::internal, fmt::format("{} is no device node, so no guest gets it", path)};
        hand(path, node, facts);
    }
}

}  // namespace

void give_nodes(const std::vector<std::string>& nodes, const Account& account) {
    each_node(nodes, [&](const std::string& path, const Fd& node, const struct stat& facts) {
        if (facts.st_uid == account.uid) return;
        if (::fchownat(node.get(), "", account.uid, account.gid, AT_EMPTY_PATH) < 0)
            throw Error{Code::internal,
                        fmt::format("Giving the device {} to the user of the process: {}", path, std::strerror(errno))};
    });
}

void take_nodes(const std::vector<std::string>& nodes, const Account& account) {
    each_node(nodes, [&](const std::string& path, const Fd& node, const struct stat& facts) {
        if (facts.st_uid != account.uid) return;
        if (::fchownat(node.get(), "", ::geteuid(), ::getegid(), AT_EMPTY_PATH) < 0)
            throw Error{Code::internal, fmt::format("Taking the device {} back: {}", path, std::strerror(errno))};
    });
}

namespace {

/// prlimit tells those of other users' processes only to whom may change them.
bool may_lock(std::uint32_t pid, std::uint64_t bytes) {
    std::ifstream limits{fmt::format("/proc/{}/limits", pid)};
    constexpr std::string_view name = "Max locked memory";
    for (std::string line; std::getline(limits, line);) {
        if (!line.starts_with(name)) continue;
        const auto from = std::min(line.find_first_not_of(' ', name.size()), line.size());
        std::uint64_t value = 0;
        if (line.compare(from, 9, "unlimited") == 0) return true;
        return std::from_chars(line.data() + from, line.data() + line.size(), value).ec == std::errc{} &&
               value >= bytes;
    }
    return false;
}

}  // namespace

void let_lock(std::uint32_t pid, std::uint64_t bytes) {
    if (bytes == 0 || may_lock(pid, bytes)) return;
    const rlimit limit{bytes, bytes};
    if (::prlimit(static_cast<pid_t>(pid), RLIMIT_MEMLOCK, &limit, nullptr) != 0)
        throw Error{Code::unsupported,
                    fmt::format("the machine needs {} bytes of locked memory for this device and cannot be given more "
                                "while it runs ({}); with the device in its definition it has them from its start",
                                bytes, std::strerror(errno))};
}

}  // namespace virtbus::systemd
