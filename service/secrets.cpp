// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/secrets.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "virtbus/error.hpp"
#include "virtbus/secret_name.hpp"

namespace virtbus {

namespace {

constexpr std::size_t longest = 1u << 20;

[[noreturn]] void refuse(const std::string& why) {
    throw Error{Code::unsupported_configuration, why};
}

/// Read from the descriptor that was checked, not from the name again.
std::string read_checked(const Fd& fd, const std::string& path) {
    struct stat status{};
    if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) refuse(fmt::format("secret {} is no file", path));
    if (status.st_uid != ::geteuid() && status.st_uid != 0)
        refuse(
            fmt::format("secret {} belongs to the user {}; say 'chown {} {}'", path, status.st_uid, ::geteuid(), path));
    if (status.st_mode & 077)
        refuse(fmt::format("secret {} may be read by others (its mode is {:04o}); say 'chmod 600 {}'", path,
                           status.st_mode & 07777, path));
    std::string value(longest + 1, '\0');
    std::size_t done = 0;
    while (done < value.size()) {
        const ssize_t got = ::read(fd.get(), value.data() + done, value.size() - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) refuse(fmt::format("secret {} cannot be read: {}", path, std::strerror(errno)));
        if (got == 0) break;
        done += static_cast<std::size_t>(got);
    }
    if (done > longest) refuse(fmt::format("secret {} is longer than 1 MiB", path));
    if (done == 0) refuse(fmt::format("secret {} is empty", path));
    value.resize(done);
    return value;
}

}  // namespace

std::string Secrets::path_of(const SecretRef& reference) const {
    const std::string name = secret_name(reference);
    if (name.empty()) refuse("a <secret> needs attribute 'uuid', or 'type' and 'usage'");
    if (name.size() - (name.rfind('/') + 1) > 255)
        refuse(fmt::format("the usage '{}' of a secret is too long for a file name", reference.usage));
    return folder_ + '/' + name;
}

Task<std::string> Secrets::get(SecretRef reference, Deadline deadline, std::stop_token stop) {
    const std::string path = path_of(reference);
    if (!files_.exists(path))
        refuse(fmt::format("secret {} is not there; put the value into it, as it is, with mode 600", path));
    // Opened without waiting, so that a FIFO in its place holds nobody.
    const Fd fd = co_await files_.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, std::nullopt, deadline, stop);
    co_return read_checked(fd, path);
}

}  // namespace virtbus
