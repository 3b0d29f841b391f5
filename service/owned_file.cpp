// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/owned_file.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "virtbus/error.hpp"

namespace virtbus {

namespace {

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

}  // namespace

std::string read_owned(const Fd& fd, const OwnedFile& file) {
    struct stat status{};
    if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) refuse(fmt::format("{} is no file", file.words));
    if (status.st_uid != ::geteuid() && status.st_uid != 0)
        refuse(fmt::format("{} belongs to the user {}; say 'chown {} {}'", file.words, status.st_uid, ::geteuid(),
                           file.path));
    if (status.st_mode & file.forbidden)
        refuse(fmt::format("{} may be {} by others (its mode is {:04o}); say 'chmod {} {}'", file.words, file.rights,
                           status.st_mode & 07777, file.right_mode, file.path));
    std::string value(file.longest + 1, '\0');
    std::size_t done = 0;
    while (done < value.size()) {
        const ssize_t got = ::read(fd.get(), value.data() + done, value.size() - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) refuse(fmt::format("{} cannot be read: {}", file.words, std::strerror(errno)));
        if (got == 0) break;
        done += static_cast<std::size_t>(got);
    }
    if (done > file.longest) refuse(fmt::format("{} is longer than {} MiB", file.words, file.longest >> 20));
    if (done == 0) refuse(fmt::format("{} is empty", file.words));
    value.resize(done);
    return value;
}

}  // namespace virtbus
