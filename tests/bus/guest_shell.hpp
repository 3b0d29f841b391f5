// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: the shell that a small Linux (data/examples/make_initramfs) has on its console, through OpenConsole.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>

#include <string>
#include <string_view>

#include "tests/bus/daemon.hpp"

namespace virtbus::tests {

class GuestShell {
public:
    explicit GuestShell(DaemonBed& bed) : bed_{bed} {}

    /// Takes the console, from another one if need be. What went wrong; "" when nothing did.
    std::string open(Client& client, const std::string& guest) {
        close();
        const auto answer = client.call(guest, domain, "OpenConsole", "sa{sv}", "", 1, "force", "b", 1);
        int fd = -1;
        if (!answer.ok() || sd_bus_message_read_basic(answer.body.get(), 'h', &fd) <= 0) return answer.message;
        console_ = Fd{::fcntl(fd, F_DUPFD_CLOEXEC, 3)};
        watch_ = bed_.loop.watch(console_.get(), readable, [this](unsigned) { read(); });
        return {};
    }
    void close() { watch_.reset(); }

    /// The guest is up.
    bool is_ready() {
        return until([this] { return has("virtbus-guest: ready"); });
    }
    /// It does it and says that it could.
    bool does(const std::string& command) {
        const auto number = std::to_string(++commands_);
        const auto line =
            "if " + command + "; then echo do''ne-" + number + "; else echo fai''led-" + number + "; fi\n";
        ::send(console_.get(), line.data(), line.size(), MSG_NOSIGNAL);
        const auto done = "done-" + number + "\r", failed = "failed-" + number + "\r";
        until([&] { return has(done) || has(failed); });
        return has(done);
    }
    bool has(std::string_view words) const { return said.find(words) != said.npos; }

    std::string said;

private:
    void read() {
        char buffer[4096];
        const auto got = ::recv(console_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
        if (got > 0) said.append(buffer, static_cast<std::size_t>(got));
        if (got == 0) close();
    }
    template <class Condition>
    bool until(Condition condition) {
        const auto tick = bed_.loop_tick();
        return bed_.loop.run_until(condition, patience);
    }

    DaemonBed& bed_;
    Fd console_;
    Registration watch_;
    int commands_ = 0;
};

}  // namespace virtbus::tests
