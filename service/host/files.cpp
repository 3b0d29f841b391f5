// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host/files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>

#include "service/host/rights.hpp"

namespace virtbus::host {

namespace {

constexpr Duration write_deadline = std::chrono::seconds{60};

std::string folder_of(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == 0 ? "/" : path.substr(0, slash);
}

std::string temporary_name(const std::string& path) {
    static std::atomic<unsigned> count{0};
    const auto slash = path.rfind('/');
    return fmt::format("{}/.{}.{}.{}{}", folder_of(path), path.substr(slash + 1), ::getpid(), ++count,
                       temporary_suffix);
}

void write_all(int fd, std::string_view content, const std::string& path) {
    while (!content.empty()) {
        const auto n = ::write(fd, content.data(), content.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail("write", path, errno);
        content.remove_prefix(static_cast<std::size_t>(n));
    }
}

/// Removes the temporary file unless it got its final name.
class Temporary {
public:
    explicit Temporary(std::string path) : path_{std::move(path)} {}
    Temporary(const Temporary&) = delete;
    Temporary& operator=(const Temporary&) = delete;
    ~Temporary() {
        if (!path_.empty()) ::unlink(path_.c_str());
    }
    const std::string& path() const { return path_; }
    void rename_to(const std::string& target) {
        if (::rename(path_.c_str(), target.c_str()) != 0) fail("rename the new file to", target, errno);
        path_.clear();
    }

private:
    std::string path_;
};

void replace(const std::string& path, std::string_view content, unsigned mode, bool durable) {
    Temporary temporary{temporary_name(path)};
    const Fd file{::open(temporary.path().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode)};
    if (!file) fail("create a file for", path, errno);
    write_all(file.get(), content, path);
    if (durable && ::fsync(file.get()) != 0) fail("sync", path, errno);
    temporary.rename_to(path);
}

void unlink_if_there(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail("remove", path, errno);
}

}  // namespace

/// Syncs a folder once for all who renamed into it before the sync began.
class LinuxFiles::FolderSyncs {
public:
    void sync(const std::string& folder) {
        std::unique_lock lock{mutex_};
        auto& state = folders_[folder];
        const auto ticket = ++state.asked;
        for (;;) {
            if (state.done >= ticket) return;
            if (!state.running) break;
            finished_.wait(lock);
        }
        state.running = true;
        const auto covers = state.asked;
        lock.unlock();
        const int error = sync_now(folder);
        lock.lock();
        state.running = false;
        if (error == 0) state.done = covers;
        finished_.notify_all();
        if (error != 0) fail("sync the folder", folder, error);
    }

private:
    struct State {
        std::uint64_t asked = 0, done = 0;
        bool running = false;
    };
    static int sync_now(const std::string& folder) {
        const Fd fd{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
        return fd && ::fsync(fd.get()) == 0 ? 0 : errno;
    }
    std::mutex mutex_;
    std::condition_variable finished_;
    std::map<std::string, State> folders_;
};

LinuxFiles::LinuxFiles(Workers& state, Workers& outside)
    : state_{state}, outside_{outside}, syncs_{std::make_shared<FolderSyncs>()} {}

LinuxFiles::~LinuxFiles() = default;

Task<> LinuxFiles::write(std::string path, std::string content, unsigned mode) {
    const auto what = "writing " + path;
    auto work = [syncs = syncs_, path = std::move(path), content = std::move(content), mode] {
        replace(path, content, mode, true);
        syncs->sync(folder_of(path));
    };
    co_await state_.run(what, std::move(work), in(write_deadline));
}

void LinuxFiles::write_volatile(const std::string& path, std::string_view content, unsigned mode) {
    replace(path, content, mode, false);
}

Task<> LinuxFiles::remove(std::string path) {
    const auto what = "removing " + path;
    auto work = [syncs = syncs_, path = std::move(path)] {
        unlink_if_there(path);
        syncs->sync(folder_of(path));
    };
    co_await state_.run(what, std::move(work), in(write_deadline));
}

void LinuxFiles::remove_volatile(const std::string& path) {
    unlink_if_there(path);
}

Task<> LinuxFiles::rename(std::string from, std::string to) {
    const auto what = "renaming " + from;
    auto work = [syncs = syncs_, from = std::move(from), to = std::move(to)] {
        if (::rename(from.c_str(), to.c_str()) != 0) fail("rename", from, errno);
        syncs->sync(folder_of(to));
        if (folder_of(from) != folder_of(to)) syncs->sync(folder_of(from));
    };
    co_await state_.run(what, std::move(work), in(write_deadline));
}

Task<> LinuxFiles::link(std::string target, std::string link) {
    const auto what = "linking " + link;
    auto work = [syncs = syncs_, target = std::move(target), link = std::move(link)] {
        Temporary temporary{temporary_name(link)};
        if (::symlink(target.c_str(), temporary.path().c_str()) != 0) fail("make the link", link, errno);
        temporary.rename_to(link);
        syncs->sync(folder_of(link));
    };
    co_await state_.run(what, std::move(work), in(write_deadline));
}

std::optional<std::string> LinuxFiles::read(const std::string& path, std::size_t limit) {
    const Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
    if (!file) {
        if (errno == ENOENT) return std::nullopt;
        fail("open", path, errno);
    }
    struct stat facts{};
    if (::fstat(file.get(), &facts) != 0) fail("read", path, errno);
    if (!S_ISREG(facts.st_mode)) throw Error{Code::internal, fmt::format("{} is not a regular file", path)};
    std::string content;
    content.resize(std::min(static_cast<std::size_t>(facts.st_size), limit) + 1);
    std::size_t have = 0;
    for (;;) {
        const auto n = ::read(file.get(), content.data() + have, content.size() - have);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail("read", path, errno);
        if (n == 0) break;
        have += static_cast<std::size_t>(n);
        if (have > limit)
            throw Error{Code::limits_exceeded, fmt::format("{} is longer than the {} bytes allowed", path, limit)};
        if (have == content.size()) content.resize(std::min(content.size() * 2, limit + 1));
    }
    content.resize(have);
    return content;
}

std::vector<std::string> LinuxFiles::list(const std::string& folder) {
    std::vector<std::string> names;
    const std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })> dir{::opendir(folder.c_str())};
    if (!dir) {
        if (errno == ENOENT) return names;
        fail("list", folder, errno);
    }
    while (const auto* entry = ::readdir(dir.get()))
        if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    std::sort(names.begin(), names.end());
    return names;
}

void LinuxFiles::make_folder(const std::string& path, unsigned mode) {
    for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
        const auto part = path.substr(0, end);
        const bool last = end == std::string::npos;
        const bool made = ::mkdir(part.c_str(), last ? mode : 0755) == 0;
        if (!made && errno != EEXIST) fail("make the folder", part, errno);
        // The umask is for what nobody thought about; who asks for a mode means it.
        if (made && last && ::chmod(part.c_str(), mode) != 0) fail("set the mode of the folder", part, errno);
        if (last) break;
    }
    const std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })> dir{::opendir(path.c_str())};
    if (!dir) fail("list", path, errno);
    while (const auto* entry = ::readdir(dir.get())) {
        const std::string_view name{entry->d_name};
        if (name.starts_with('.') && name.ends_with(temporary_suffix)) ::unlinkat(::dirfd(dir.get()), entry->d_name, 0);
    }
}

bool LinuxFiles::exists(const std::string& path) {
    return ::access(path.c_str(), F_OK) == 0;
}

Task<Fd> LinuxFiles::open(std::string path, int flags, unsigned mode, std::optional<Identity> as, Deadline deadline,
                          std::stop_token stop) {
    const auto what = "opening " + path;
    auto work = [path = std::move(path), flags, mode, as = std::move(as)] {
        std::optional<Rights> rights;
        if (as && ::geteuid() == 0) rights.emplace(*as);
        Fd file{::open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY, mode)};
        if (file) return file;
        const int error = errno;
        const auto code = as && (error == EACCES || error == EPERM) ? Code::access_denied
                          : error == ENOSPC || error == EDQUOT      ? Code::no_space
                                                                    : Code::unsupported_configuration;
        throw Error{code, fmt::format("cannot open {}: {}", path, std::strerror(error))};
    };
    co_return co_await outside_.run(what, std::move(work), deadline, std::move(stop));
}

}  // namespace virtbus::host
