// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/console.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "virtbus/error.hpp"

namespace virtbus::qemu {

struct ConsolePump::Core : std::enable_shared_from_this<Core> {
    struct Side {
        Fd fd;
        std::string to_write;  ///< what came from the other side
        Registration reading, writing;
        bool finished = false;  ///< nothing more will come from it
    };

    Core(Loop& loop_, Fd device_, Fd caller_, std::function<void()> closed_) : loop{loop_}, closed{std::move(closed_)} {
        device.fd = std::move(device_);
        caller.fd = std::move(caller_);
    }

    Loop& loop;
    Side device, caller;
    std::function<void()> closed;
    bool done = false;

    void start() {
        watch_reading(device);
        watch_reading(caller);
    }

    void watch_reading(Side& side) {
        if (side.reading || side.finished) return;
        side.reading = loop.watch(side.fd.get(), readable, [weak = weak_from_this(), &side](unsigned) {
            if (const auto self = weak.lock()) self->receive(side);
        });
    }

    void watch_writing(Side& side) {
        if (side.writing) return;
        side.writing = loop.watch(side.fd.get(), writable, [weak = weak_from_this(), &side](unsigned) {
            if (const auto self = weak.lock()) self->flush(side);
        });
    }

    void receive(Side& from) {
        if (done) return;
        auto& to = &from == &device ? caller : device;
        char buffer[16U << 10];
        const auto got = ::read(from.fd.get(), buffer, sizeof buffer);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (got <= 0) {
            from.finished = true;
            from.reading.reset();
            return &from == &caller || to.to_write.empty() ? finish() : flush(to);
        }
        to.to_write.append(buffer, static_cast<std::size_t>(got));
        if (&to == &caller && to.to_write.size() > output_limit)
            to.to_write.erase(0, to.to_write.size() - output_limit);
        if (&to == &device && to.to_write.size() >= input_limit) from.reading.reset();
        flush(to);
    }

    void flush(Side& side) {
        while (!done && !side.to_write.empty()) {
            const auto sent = &side == &caller
                                  ? ::send(side.fd.get(), side.to_write.data(), side.to_write.size(), MSG_NOSIGNAL)
                                  : ::write(side.fd.get(), side.to_write.data(), side.to_write.size());
            if (sent < 0 && errno == EINTR) continue;
            if (sent < 0 && errno == EAGAIN) break;
            if (sent < 0) return finish();
            side.to_write.erase(0, static_cast<std::size_t>(sent));
        }
        if (done) return;
        auto& other = &side == &caller ? device : caller;
        if (!side.to_write.empty()) return watch_writing(side);
        side.writing.reset();
        if (other.finished) return finish();
        watch_reading(other);
    }

    void stop() {
        done = true;
        for (auto* side : {&device, &caller}) {
            side->reading.reset();
            side->writing.reset();
            side->fd = Fd{};
        }
    }

    void finish() {
        if (done) return;
        stop();
        loop.post([self = shared_from_this()] {
            if (self->closed) std::exchange(self->closed, nullptr)();
        });
    }
};

namespace {
void set_nonblocking(int fd) {
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}
}  // namespace

ConsolePump::ConsolePump(Loop& loop, Fd device, Fd caller, std::function<void()> closed) {
    set_nonblocking(device.get());
    set_nonblocking(caller.get());
    core_ = std::make_shared<Core>(loop, std::move(device), std::move(caller), std::move(closed));
    core_->start();
}

ConsolePump::~ConsolePump() {
    core_->closed = nullptr;
    core_->stop();
}

Fd Consoles::open(const std::string& name, Fd device) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        throw Error{Code::internal, fmt::format("socketpair: {}", std::strerror(errno))};
    Fd theirs{ends[1]};
    pumps_[name] =
        std::make_unique<ConsolePump>(loop_, std::move(device), Fd{ends[0]}, [this, name] { pumps_.erase(name); });
    return theirs;
}

Fd open_pty(const std::string& path) {
    Fd fd{::open(path.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)};
    if (!fd) throw Error{Code::invalid_state, fmt::format("terminal {}: {}", path, std::strerror(errno))};
    return fd;
}

Fd connect_socket(const std::string& path) {
    Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!fd) throw Error{Code::internal, fmt::format("socket: {}", std::strerror(errno))};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    Fd file;
    auto name = path;
    if (name.size() >= sizeof address.sun_path) {
        file = Fd{::open(path.c_str(), O_PATH | O_CLOEXEC)};
        name = fmt::format("/proc/self/fd/{}", file.get());
    }
    name.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        throw Error{Code::invalid_state, fmt::format("cannot connect to {}: {}", path, std::strerror(errno))};
    return fd;
}

Fd connect_tcp(const std::string& host, const std::string& port) {
    // Names would have to be asked of a server, which may take long; a console that listens is on this machine.
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST;
    addrinfo* found = nullptr;
    const auto numeric = host.empty() || host == "localhost" || host == "0.0.0.0" ? std::string{"127.0.0.1"} : host;
    if (const int error = ::getaddrinfo(numeric.c_str(), port.c_str(), &hints, &found); error != 0)
        throw Error{Code::invalid_state, fmt::format("{}:{} is no address: {}", host, port, ::gai_strerror(error))};
    Fd fd{::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    const int failed = fd ? ::connect(fd.get(), found->ai_addr, found->ai_addrlen) : -1;
    const int error = errno;
    ::freeaddrinfo(found);
    if (failed != 0 && error != EINPROGRESS)
        throw Error{Code::invalid_state, fmt::format("cannot connect to {}:{}: {}", host, port, std::strerror(error))};
    return fd;
}

}  // namespace virtbus::qemu
