// SPDX-License-Identifier: LGPL-2.1-or-later
// What tests with a real Linux in the guest share: its console.
#pragma once

#include <sys/socket.h>

#include <string>
#include <string_view>

#include "tests/qemu/qemu_bed.hpp"
#include "tests/support/kernel.hpp"

namespace virtbus::tests {

/// The guest's console, with all that it has said.
struct Terminal {
    Fd socket;
    std::string said;
    Registration watch;

    Terminal(QemuBed& bed, Guest& guest) : socket{bed.run(guest.open_console("", false, {}))} {
        watch = bed.host.loop.watch(socket.get(), readable, [this](unsigned) {
            char buffer[4096];
            const auto got = ::recv(socket.get(), buffer, sizeof buffer, MSG_DONTWAIT);
            if (got > 0) said.append(buffer, static_cast<std::size_t>(got));
            if (got == 0) watch.reset();
        });
    }
    bool has(std::string_view text) const { return said.find(text) != said.npos; }
    void type(std::string_view text) const { ::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL); }
};

}  // namespace virtbus::tests
