// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host/rights.hpp"

#include <fmt/format.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace virtbus::host {

void fail(const char* verb, const std::string& path, int error) {
    const auto code = error == ENOSPC || error == EDQUOT ? Code::no_space : Code::internal;
    throw Error{code, fmt::format("cannot {} {}: {}", verb, path, std::strerror(error))};
}

Rights::Rights(const Identity& identity) {
    saved_.resize(static_cast<std::size_t>(std::max(::getgroups(0, nullptr), 0)));
    if (::getgroups(static_cast<int>(saved_.size()), saved_.data()) < 0) fail("read", "the daemon's groups", errno);
    // The C library's setgroups changes all threads; the system call changes this one.
    if (::syscall(SYS_setgroups, identity.groups.size(), identity.groups.data()) != 0)
        fail("take", "the caller's groups", errno);
    gid_ = static_cast<gid_t>(::setfsgid(identity.gid));
    uid_ = static_cast<uid_t>(::setfsuid(identity.uid));
    if (static_cast<uid_t>(::setfsuid(static_cast<uid_t>(-1))) != identity.uid) {
        restore();
        fail("take", "the caller's rights", EPERM);
    }
}

void Rights::restore() {
    ::setfsuid(uid_);
    ::setfsgid(gid_);
    if (::syscall(SYS_setgroups, saved_.size(), saved_.data()) != 0) std::abort();
}

}  // namespace virtbus::host
