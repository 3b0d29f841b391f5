// SPDX-License-Identifier: LGPL-2.1-or-later
// Streams to a guest's character devices: who has one open, and the pump between the device and the socket that the
// caller got. Which devices there are is guest.hpp's knowledge.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "virtbus/fd.hpp"
#include "virtbus/loop.hpp"

namespace virtbus::qemu {

/// Copies both ways with bounded memory. The device is always read: a caller that does not keep up loses the oldest
/// output, and never holds up the guest.
class ConsolePump {
public:
    static constexpr std::size_t output_limit = 256U << 10;
    static constexpr std::size_t input_limit = 64U << 10;

    /// `closed` is called from the loop when either side has gone.
    ConsolePump(Loop& loop, Fd device, Fd caller, std::function<void()> closed);
    ~ConsolePump();

private:
    struct Core;
    std::shared_ptr<Core> core_;
};

class Consoles {
public:
    explicit Consoles(Loop& loop) : loop_{loop} {}

    bool is_open(const std::string& name) const { return pumps_.contains(name); }
    /// Takes the stream away from whoever has it.
    void close(const std::string& name) { pumps_.erase(name); }
    void close_all() { pumps_.clear(); }
    /// Kept for the driver's own use: nobody gets it, force or not.
    void reserve(const std::string& name) { reserved_.insert(name); }
    void release(const std::string& name) { reserved_.erase(name); }
    bool is_reserved(const std::string& name) const { return reserved_.contains(name); }
    /// Pumps the device and gives the caller's end.
    Fd open(const std::string& name, Fd device);

private:
    Loop& loop_;
    std::map<std::string, std::unique_ptr<ConsolePump>> pumps_;
    std::set<std::string> reserved_;
};

/// Opens the terminal without making it ours; InvalidState when it has gone.
Fd open_pty(const std::string& path);
/// Connects to a local socket without waiting. Paths may be longer than the address allows.
Fd connect_socket(const std::string& path);
/// Connects to host:port on this machine or elsewhere without waiting; numeric addresses and localhost only.
Fd connect_tcp(const std::string& host, const std::string& port);

}  // namespace virtbus::qemu
