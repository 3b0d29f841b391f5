// SPDX-License-Identifier: LGPL-2.1-or-later
// Peers on the socket: D-Bus without a bus. Accepts connections within limits, establishes who each is from the kernel,
// and serves it until it closes.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "dbus/server/dispatcher.hpp"
#include "dbus/server/signals.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::dbus {

struct PeerOptions {
    std::string service;                    ///< the name peers find, "org.virtbus1"
    std::optional<std::uint32_t> only_uid;  ///< besides root, nobody else is let in
    std::size_t most_per_uid = 32;
    std::size_t most = 1024;
    Duration patience = std::chrono::seconds{10};  ///< to authenticate
};

class Peers {
public:
    Peers(Dispatcher& dispatcher, Signals& signals, Loop& loop, Log& log, PeerOptions options);
    ~Peers();

    /// Serves on a socket that listens already.
    void listen(Fd socket);
    /// Makes the socket, replacing one that a dead process has left; everybody may connect, permission is asked per
    /// call.
    void listen(const std::string& path, unsigned mode);
    void stop_listening();
    /// Also dismisses everybody.
    void close();

    /// Serves one connected socket: also what accept does.
    void admit(Fd socket);
    bool empty() const { return peers_.empty(); }

private:
    class Peer;
    void watch();
    void accept_some();
    void dismiss(std::uint64_t number);

    Dispatcher& dispatcher_;
    Signals& signals_;
    Loop& loop_;
    Log& log_;
    PeerOptions options_;
    Fd listening_;
    std::string made_path_;
    Registration watch_, pause_;
    std::uint64_t last_number_ = 0;
    std::map<std::uint64_t, std::shared_ptr<Peer>> peers_;
};

}  // namespace virtbus::dbus
