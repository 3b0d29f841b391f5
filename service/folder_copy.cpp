// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/folder_copy.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"

namespace virtbus {

namespace {

constexpr std::uint64_t most_bytes = 64UL << 20;
constexpr int most_entries = 1'000, most_levels = 8;

[[noreturn]] void fail(std::string_view verb, const std::string& path, int error) {
    const auto code = error == ENOSPC || error == EDQUOT ? Code::no_space : Code::internal;
    throw Error{code, fmt::format("cannot {} {}: {}", verb, path, std::strerror(error))};
}

void sync(int fd, const std::string& path) {
    if (::fsync(fd) != 0) fail("sync", path, errno);
}

void sync_folder_of(const std::string& path) {
    const auto folder = path.substr(0, path.rfind('/'));
    const Fd fd{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!fd) fail("open", folder, errno);
    sync(fd.get(), folder);
}

/// What a copy has used up.
struct Budget {
    std::uint64_t bytes = most_bytes;
    int entries = most_entries;
};

void pour(int from, int to, const std::string& path, Budget* budget) {
    const auto buffer = std::make_unique<std::array<char, 1 << 16>>();
    for (;;) {
        const auto have = ::read(from, buffer->data(), buffer->size());
        if (have < 0 && errno == EINTR) continue;
        if (have < 0) fail("read", path, errno);
        if (have == 0) return;
        const auto count = static_cast<std::size_t>(have);
        if (budget && budget->bytes < count)
            throw Error{Code::limits_exceeded,
                        fmt::format("{} and its neighbours have more than {} bytes", path, most_bytes)};
        if (budget) budget->bytes -= count;
        for (std::size_t done = 0; done < count;) {
            const auto put = ::write(to, buffer->data() + done, count - done);
            if (put < 0 && errno == EINTR) continue;
            if (put < 0) fail("copy", path, errno);
            done += static_cast<std::size_t>(put);
        }
    }
}

/// As the original's. Who may not give files away keeps them: they are then its own already.
void take_over(int fd, const struct stat& facts, const std::string& path) {
    if (::fchown(fd, facts.st_uid, facts.st_gid) != 0 && errno != EPERM) fail("set the owner of", path, errno);
    if (::fchmod(fd, facts.st_mode & 0777) != 0) fail("set the mode of", path, errno);
}

void copy_level(int from, int to, const std::string& path, Budget& budget, int level);

void copy_entry(int from, int to, const std::string& name, const std::string& path, Budget& budget, int level) {
    struct stat facts{};
    if (::fstatat(from, name.c_str(), &facts, AT_SYMLINK_NOFOLLOW) != 0) fail("look at", path, errno);
    const bool folder = S_ISDIR(facts.st_mode);
    if (!folder && !S_ISREG(facts.st_mode)) return;
    if (budget.entries-- == 0)
        throw Error{Code::limits_exceeded, fmt::format("{} and its neighbours are more than {}", path, most_entries)};
    const int kind = folder ? O_DIRECTORY : O_NONBLOCK | O_NOCTTY;
    const Fd source{::openat(from, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | kind)};
    if (!source) fail("open", path, errno);
    if (folder && ::mkdirat(to, name.c_str(), 0700) != 0) fail("copy", path, errno);
    const Fd copy{folder ? ::openat(to, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
                         : ::openat(to, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (!copy) fail("copy", path, errno);
    if (folder)
        copy_level(source.get(), copy.get(), path, budget, level + 1);
    else
        pour(source.get(), copy.get(), path, &budget);
    take_over(copy.get(), facts, path);
    sync(copy.get(), path);
}

void copy_level(int from, int to, const std::string& path, Budget& budget, int level) {
    if (level > most_levels)
        throw Error{Code::limits_exceeded, fmt::format("{} lies more than {} levels deep", path, most_levels)};
    Fd again{::openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!again) fail("open", path, errno);
    const std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })> dir{::fdopendir(again.get())};
    if (!dir) fail("list", path, errno);
    again.release();
    while (const auto* entry = ::readdir(dir.get())) {
        const std::string name{entry->d_name};
        if (name != "." && name != "..") copy_entry(from, to, name, fmt::format("{}/{}", path, name), budget, level);
    }
}

}  // namespace

void copy_file(const std::string& from, const std::string& to) {
    const Fd source{::open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
    if (!source) fail("open", from, errno);
    struct stat facts{};
    if (::fstat(source.get(), &facts) != 0) fail("look at", from, errno);
    if (!S_ISREG(facts.st_mode)) throw Error{Code::internal, fmt::format("{} is not a regular file", from)};
    const auto fresh = to + ".new";
    if (::unlink(fresh.c_str()) != 0 && errno != ENOENT) fail("remove", fresh, errno);
    const Fd copy{::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (!copy) fail("make", fresh, errno);
    try {
        pour(source.get(), copy.get(), from, nullptr);
        take_over(copy.get(), facts, fresh);
        sync(copy.get(), fresh);
        if (::rename(fresh.c_str(), to.c_str()) != 0) fail("replace", to, errno);
    } catch (...) {
        ::unlink(fresh.c_str());
        throw;
    }
    sync_folder_of(to);
}

void copy_folder(const std::string& from, const std::string& to) {
    const Fd source{::open(from.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)};
    if (!source) fail("open", from, errno);
    struct stat facts{};
    if (::fstat(source.get(), &facts) != 0) fail("look at", from, errno);
    const auto fresh = to + ".new";
    remove_folder(fresh);
    if (::mkdir(fresh.c_str(), 0700) != 0) fail("make", fresh, errno);
    try {
        const Fd copy{::open(fresh.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)};
        if (!copy) fail("open", fresh, errno);
        Budget budget;
        copy_level(source.get(), copy.get(), from, budget, 1);
        take_over(copy.get(), facts, fresh);
        sync(copy.get(), fresh);
        // A folder that has something in it cannot be replaced, but two can change places.
        if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) != 0) {
            if (errno != ENOENT) fail("replace", to, errno);
            if (::rename(fresh.c_str(), to.c_str()) != 0) fail("name", to, errno);
        }
        sync_folder_of(to);
    } catch (...) {
        std::error_code ignored;
        std::filesystem::remove_all(fresh, ignored);
        throw;
    }
    remove_folder(fresh);
}

void remove_folder(const std::string& folder) {
    std::error_code error;
    std::filesystem::remove_all(folder, error);
    if (error) throw Error{Code::internal, fmt::format("cannot remove the folder {}: {}", folder, error.message())};
}

}  // namespace virtbus
