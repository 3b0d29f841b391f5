// SPDX-License-Identifier: LGPL-2.1-or-later
#include "test/echo_console.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "virtbus/error.hpp"

namespace virtbus::test_driver {

Fd EchoConsole::connect(const std::string& banner) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        throw Error{Code::internal, "no socket pair for the console"};
    fd_ = Fd{ends[0]};
    Fd theirs{ends[1]};
    ::fcntl(fd_.get(), F_SETFL, O_NONBLOCK);
    (void)::send(fd_.get(), banner.data(), banner.size(), MSG_NOSIGNAL);
    watch_ = loop_.watch(fd_.get(), readable, [this](unsigned readiness) { ready(readiness); });
    return theirs;
}

void EchoConsole::ready(unsigned readiness) {
    std::array<char, 4096> buffer;
    const auto n = ::read(fd_.get(), buffer.data(), buffer.size());
    if (n > 0) {
        // Who does not read loses the echo, not the daemon its memory.
        (void)::send(fd_.get(), buffer.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL | MSG_DONTWAIT);
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR) && !(readiness & hung_up)) return;
    watch_.reset();
    fd_ = Fd{};
}

}  // namespace virtbus::test_driver
