// SPDX-License-Identifier: LGPL-2.1-or-later
#include "activation.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include <cstdlib>

namespace virtbus::systemd {

std::vector<Fd> take_listening_sockets(const std::string& name) {
    char** names = nullptr;
    const int count = sd_listen_fds_with_names(1, &names);
    std::vector<Fd> sockets;
    for (int i = 0; i < count; ++i) {
        Fd fd{SD_LISTEN_FDS_START + i};
        const bool fits = names[i] == name && sd_is_socket_unix(fd.get(), SOCK_STREAM, 1, nullptr, 0) > 0;
        // The manager opens them blocking, and an accept that waits would stop everything else.
        if (fits && ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK) == 0)
            sockets.push_back(std::move(fd));
        std::free(names[i]);
    }
    std::free(names);
    return sockets;
}

}  // namespace virtbus::systemd
