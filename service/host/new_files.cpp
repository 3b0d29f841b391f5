// SPDX-License-Identifier: LGPL-2.1-or-later
// Files that are written beside their final name, with the rights of whoever named them.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "service/host/files.hpp"
#include "service/host/rights.hpp"

namespace virtbus::host {

namespace {

constexpr Duration removal_deadline = std::chrono::seconds{60};

struct Parted {
    std::string folder, name;
};

Parted parted(const std::string& path) {
    const auto slash = path.rfind('/');
    if (path.empty() || path.front() != '/' || slash + 1 == path.size())
        throw Error{Code::invalid_args, fmt::format("'{}' is no absolute path of a file", path)};
    Parted parts{slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
    if (parts.name == "." || parts.name == "..")
        throw Error{Code::invalid_args, fmt::format("'{}' names a folder, not a file", path)};
    return parts;
}

/// One that somebody else named: what is wrong with it is for them to mend.
[[noreturn]] void refuse(const char* verb, const std::string& path, int error, bool caller) {
    if (error == ENOSPC || error == EDQUOT) fail(verb, path, error);
    const bool denied = error == EACCES || error == EPERM || error == EROFS;
    throw Error{caller && denied ? Code::access_denied : Code::invalid_args,
                fmt::format("cannot {} {}: {}", verb, path, std::strerror(error))};
}

std::unique_ptr<Rights> rights_of(const std::optional<Identity>& as) {
    return as && ::geteuid() == 0 ? std::make_unique<Rights>(*as) : nullptr;
}

std::string temporary_begin(const std::string& name) {
    constexpr std::size_t most = 200;  // with the rest it must stay below NAME_MAX
    return fmt::format(".{}.", name.substr(0, most));
}

std::string temporary_name(const std::string& name) {
    static std::atomic<unsigned> count{0};
    return fmt::format("{}{}.{}{}", temporary_begin(name), ::getpid(), ++count, temporary_suffix);
}

bool process_runs(std::string_view pid) {
    return ::access(fmt::format("/proc/{}", pid).c_str(), F_OK) == 0;
}

/// What a daemon that ended in the middle, and its host with it, has left beside the same final name: nothing else
/// remembers it. In a folder that may not be read it stays.
void remove_leftovers(int folder, const std::string& name) {
    const auto begin = temporary_begin(name);
    const int own = ::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })> dir{own < 0 ? nullptr : ::fdopendir(own)};
    if (!dir) {
        if (own >= 0) ::close(own);
        return;
    }
    while (const auto* entry = ::readdir(dir.get())) {
        const std::string_view found{entry->d_name};
        if (!found.starts_with(begin) || !found.ends_with(temporary_suffix)) continue;
        const auto numbers = found.substr(begin.size(), found.size() - begin.size() - temporary_suffix.size());
        const auto pid = numbers.substr(0, numbers.find('.'));
        if (numbers.find_first_not_of("0123456789.") != numbers.npos || pid.empty() || process_runs(pid)) continue;
        ::unlinkat(folder, entry->d_name, 0);
    }
}

Fd open_folder(const std::string& folder, bool caller) {
    Fd fd{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!fd && errno == EACCES) fd = Fd{::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
    if (!fd) refuse("open the folder", folder, errno, caller);
    return fd;
}

void require_replaceable(int folder, const std::string& name, const std::string& path) {
    struct stat facts{};
    if (::fstatat(folder, name.c_str(), &facts, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (!S_ISREG(facts.st_mode) && !S_ISLNK(facts.st_mode))
        throw Error{Code::invalid_args, fmt::format("{} exists and is no regular file; name another", path)};
}

std::string last_part(const std::string& path) {
    return path.substr(path.rfind('/') + 1);
}

void give_name(const NewFile& file) {
    if (::fsync(file.file.get()) != 0) fail("sync", file.path, errno);
    const auto rights = rights_of(file.as);
    const auto from = last_part(file.temporary), to = last_part(file.path);
    if (::renameat(file.folder.get(), from.c_str(), file.folder.get(), to.c_str()) != 0)
        refuse("give the new file its name", file.path, errno, file.as.has_value());
    // A folder that may be searched but not read cannot be synced by itself.
    if (::fsync(file.folder.get()) != 0 && errno != EBADF && ::syncfs(file.file.get()) != 0) {
        const int error = errno;
        ::unlinkat(file.folder.get(), to.c_str(), 0);
        fail("sync the folder of", file.path, error);
    }
}

}  // namespace

Task<Identity> LinuxFiles::identify(std::uint32_t uid, Deadline deadline) {
    const auto what = fmt::format("looking up user {}", uid);
    auto work = [uid] {
        std::vector<char> space(1 << 16);
        passwd entry{};
        passwd* found = nullptr;
        ::getpwuid_r(uid, &entry, space.data(), space.size(), &found);
        if (!found)
            throw Error{Code::access_denied,
                        fmt::format("user {} is not in the host's user database, so its rights are not known", uid)};
        Identity identity{uid, found->pw_gid, {}};
        int count = 64;
        for (int attempt = 0; attempt < 3; ++attempt) {
            identity.groups.resize(static_cast<std::size_t>(count));
            static_assert(sizeof(gid_t) == sizeof(std::uint32_t));
            if (::getgrouplist(found->pw_name, found->pw_gid, identity.groups.data(), &count) >= 0) break;
        }
        identity.groups.resize(std::min(identity.groups.size(), static_cast<std::size_t>(std::max(count, 0))));
        return identity;
    };
    co_return co_await outside_.run(what, std::move(work), deadline);
}

Task<NewFilePtr> LinuxFiles::create_beside(std::string path, unsigned mode, std::optional<Identity> as,
                                           Deadline deadline, std::stop_token stop) {
    const auto what = "creating " + path;
    auto work = [path = std::move(path), mode, as = std::move(as)] {
        const auto [folder, name] = parted(path);
        const auto rights = rights_of(as);
        auto made = std::make_shared<NewFile>();
        made->folder = open_folder(folder, as.has_value());
        require_replaceable(made->folder.get(), name, path);
        remove_leftovers(made->folder.get(), name);
        const auto temporary = temporary_name(name);
        made->file = Fd{::openat(made->folder.get(), temporary.c_str(),
                                 O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, mode)};
        if (!made->file) refuse("create a file in", folder, errno, as.has_value());
        made->path = path;
        made->temporary = (folder == "/" ? "" : folder) + '/' + temporary;
        made->as = as;
        return made;
    };
    co_return co_await outside_.run(what, std::move(work), deadline, std::move(stop));
}

Task<> LinuxFiles::commit(NewFilePtr file) {
    const auto what = "finishing " + file->path;
    auto work = [file] { give_name(*file); };
    co_await outside_.run(what, std::move(work), std::nullopt);
}

Task<> LinuxFiles::discard(NewFilePtr file) {
    const auto what = "discarding " + file->temporary;
    auto work = [file] {
        const auto rights = rights_of(file->as);
        if (::unlinkat(file->folder.get(), last_part(file->temporary).c_str(), 0) != 0 && errno != ENOENT)
            fail("remove", file->temporary, errno);
    };
    co_await outside_.run(what, std::move(work), in(removal_deadline));
}

Task<> LinuxFiles::remove_temporary(std::string temporary, std::optional<Identity> as) {
    const auto what = "removing " + temporary;
    auto work = [temporary = std::move(temporary), as = std::move(as)] {
        if (!temporary.ends_with(temporary_suffix) || !last_part(temporary).starts_with('.')) return;
        const auto rights = rights_of(as);
        if (::unlink(temporary.c_str()) != 0 && errno != ENOENT) fail("remove", temporary, errno);
    };
    co_await outside_.run(what, std::move(work), in(removal_deadline));
}

}  // namespace virtbus::host
