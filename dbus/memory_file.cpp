// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dbus/memory_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "virtbus/error.hpp"

namespace virtbus::dbus {

namespace {

constexpr int unchangeable = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

std::string_view kind_of(mode_t mode) {
    switch (mode & S_IFMT) {
        case S_IFREG:
            return "an ordinary file";
        case S_IFDIR:
            return "a folder";
        case S_IFIFO:
            return "a pipe";
        case S_IFSOCK:
            return "a socket";
        case S_IFCHR:
        case S_IFBLK:
            return "a device";
        default:
            return "no file";
    }
}

[[noreturn]] void refuse(std::string_view what, std::string_view found) {
    throw Error{Code::invalid_args,
                fmt::format("{} is {}; it must be a memory file (memfd_create) that is sealed against shrinking, "
                            "growing and writing",
                            what, found)};
}

}  // namespace

Fd sealed_file(const char* name, std::string_view content) {
    Fd file{::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (!file) throw Error{Code::internal, fmt::format("cannot make a memory file: {}", std::strerror(errno))};
    while (!content.empty()) {
        const auto written = ::write(file.get(), content.data(), content.size());
        if (written <= 0)
            throw Error{Code::internal, fmt::format("cannot fill a memory file: {}", std::strerror(errno))};
        content.remove_prefix(static_cast<std::size_t>(written));
    }
    ::lseek(file.get(), 0, SEEK_SET);
    ::fcntl(file.get(), F_ADD_SEALS, unchangeable | F_SEAL_SEAL);
    return file;
}

std::uint64_t require_sealed(const Fd& file, std::uint64_t most, std::string_view what) {
    struct stat facts{};
    if (::fstat(file.get(), &facts) < 0) refuse(what, "not readable");
    if (!S_ISREG(facts.st_mode)) refuse(what, kind_of(facts.st_mode));
    // Only memory files know seals, and one that was opened by its path alone (O_PATH) does not tell them.
    const int seals = ::fcntl(file.get(), F_GET_SEALS);
    if (seals < 0) refuse(what, kind_of(facts.st_mode));
    if ((seals & unchangeable) != unchangeable) refuse(what, "a file that can still be changed");
    const auto size = static_cast<std::uint64_t>(facts.st_size);
    if (size > most)
        throw Error{Code::invalid_args, fmt::format("{} has {} bytes; at most {} are taken", what, size, most)};
    return size;
}

std::string read_sealed(const Fd& file, std::uint64_t size, std::string_view what) {
    std::string content(size, '\0');
    for (std::size_t done = 0; done < content.size();) {
        const auto n = ::pread(file.get(), content.data() + done, content.size() - done, static_cast<off_t>(done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            throw Error{Code::invalid_args,
                        fmt::format("{} cannot be read: {}", what, n < 0 ? std::strerror(errno) : "it is cut")};
        done += static_cast<std::size_t>(n);
    }
    return content;
}

}  // namespace virtbus::dbus
