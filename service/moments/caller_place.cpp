// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/moments/caller_place.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "service/saved_file.hpp"
#include "virtbus/error.hpp"

namespace virtbus {

namespace {

constexpr Duration patience{30'000};

[[noreturn]] void failed(const std::string& path, const char* doing) {
    throw Error{errno == EADDRINUSE || errno == EEXIST ? Code::already_exists : Code::unsupported_configuration,
                fmt::format("cannot {} '{}': {}", doing, path, std::strerror(errno))};
}

Fd bind_unix(int folder, const std::string& name, const std::string& plain, const std::optional<Identity>& as) {
    Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (!fd) failed(plain, "make the socket");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const auto path = fmt::format("/proc/self/fd/{}/{}", folder, name);
    if (path.size() >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        failed(plain, "make the socket");
    }
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    ::fchmod(fd.get(), 0600);  // takes effect at bind
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        failed(plain, "make the socket");
    const bool theirs = !as || ::fchownat(folder, name.c_str(), as->uid, as->gid, AT_SYMLINK_NOFOLLOW) == 0;
    if (!theirs || ::listen(fd.get(), 8) != 0) {
        const int error = errno;
        ::unlinkat(folder, name.c_str(), 0);
        errno = error;
        failed(plain, "listen on the socket");
    }
    return fd;
}

Fd bind_tcp(const std::string& host, const std::string& port) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    addrinfo* list = nullptr;
    if (const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &list))
        throw Error{Code::unsupported_configuration,
                    fmt::format("cannot serve on {} port {}: {}", host, port, ::gai_strerror(error))};
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned{list, &::freeaddrinfo};
    for (const auto* each = list; each; each = each->ai_next) {
        Fd fd{::socket(each->ai_family, each->ai_socktype | SOCK_CLOEXEC, each->ai_protocol)};
        const int on = 1;
        if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) continue;
        if (::bind(fd.get(), each->ai_addr, each->ai_addrlen) == 0 && ::listen(fd.get(), 8) == 0) return fd;
    }
    failed(fmt::format("{} port {}", host, port), "serve on");
}

}  // namespace

Task<CallerPlace> CallerPlace::open(Ports& ports, std::string path, std::optional<Identity> as) {
    require_file_name(path);
    CallerPlace place;
    const auto slash = path.rfind('/');
    place.name_ = path.substr(slash + 1);
    place.plain_ = path;
    place.as_ = as;
    place.folder_ = co_await ports.files.open(slash == 0 ? "/" : path.substr(0, slash), O_RDONLY | O_DIRECTORY, 0,
                                              std::move(as), in(patience));
    co_return place;
}

std::string CallerPlace::path() const {
    return as_ ? fmt::format("/proc/self/fd/{}/{}", folder_.get(), name_) : plain_;
}

bool CallerPlace::exists() const {
    struct stat facts{};
    return ::fstatat(folder_.get(), name_.c_str(), &facts, AT_SYMLINK_NOFOLLOW) == 0;
}

Task<> CallerPlace::make(Ports& ports) const {
    if (as_) co_await ports.files.open(path(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600, as_, in(patience));
}

Task<Fd> CallerPlace::listen(Ports& ports) const {
    if (as_) {
        // That the caller may make it there is tried with something that is gone again before anybody meets it.
        co_await ports.files.open(path(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, as_, in(patience));
        remove();
    }
    auto folder = std::make_shared<Fd>(::fcntl(folder_.get(), F_DUPFD_CLOEXEC, 3));
    co_return co_await ports.workers.run(
        fmt::format("listening on '{}'", plain_),
        [folder, name = name_, plain = plain_, as = as_ ? as_ : owner_] {
            return bind_unix(folder->get(), name, plain, as);
        },
        in(patience));
}

void CallerPlace::remove() const noexcept {
    ::unlinkat(folder_.get(), name_.c_str(), 0);
}

Task<Fd> listen_on_tcp(Ports& ports, std::string host, std::string port) {
    co_return co_await ports.workers.run(
        fmt::format("listening on {} port {}", host, port), [host, port] { return bind_tcp(host, port); },
        in(patience));
}

}  // namespace virtbus
