// SPDX-License-Identifier: LGPL-2.1-or-later
// virtbus on D-Bus, as a whole: what main makes, hands to the service as its audience and its knowledge of callers,
// shows the service's objects on, and opens to the bus and to the socket.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "dbus/server/permissions.hpp"
#include "service/audience.hpp"
#include "virtbus/caller.hpp"
#include "virtbus/fd.hpp"
#include "virtbus/ports.hpp"

namespace virtbus {
class Domains;
class Jobs;
class Networks;
}  // namespace virtbus

namespace virtbus::dbus {

inline constexpr const char* bus_name = "org.virtbus1";

/// The order of its life: made first, so that Jobs and Domains can be given audience() and callers(); present() when
/// they exist; serve_*() when they are loaded. To be destroyed before them, so that no call outlives what it works on.
class Face {
public:
    Face(Loop& loop, Log& log, PermissionCheck check, std::string version, bool system_mode);
    ~Face();

    Audience& audience();
    Callers& callers();
    void present(Domains& domains, Networks& networks, Jobs& jobs, Workers& workers);

    /// Connects to the system or session bus and owns the name; AlreadyExists when another process has it. `lost` is
    /// told when the bus goes away.
    void serve_bus(std::function<void(std::string why)> lost);
    /// Serves peers on a socket that listens already (from systemd) or on one made at the path.
    void serve_socket(Fd listening);
    void serve_socket(const std::string& path);

    /// No peers, no calls under way, and nobody on the bus who has ever called.
    bool idle() const;
    /// Gives the name back and takes no new peers; who is connected is still served.
    void retire();
    /// Drops the calls that are under way and all connections, so that nothing reaches Jobs and Domains any more.
    void close();

private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

}  // namespace virtbus::dbus
