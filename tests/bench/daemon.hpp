// SPDX-License-Identifier: LGPL-2.1-or-later
// A dbus-daemon and a virtbusd of their own in a temporary folder, ended with the object.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace virtbus::bench {

/// A child process; killed and reaped when the object goes.
class Process {
public:
    Process() = default;
    Process(std::vector<std::string> argv, std::map<std::string, std::string> environment, const std::string& log,
            int ready_fd = -1);
    Process(Process&& other) noexcept : pid_{std::exchange(other.pid_, -1)} {}
    Process& operator=(Process&& other) noexcept {
        std::swap(pid_, other.pid_);
        return *this;
    }
    ~Process() { end(9); }

    pid_t pid() const { return pid_; }
    /// Sends the signal and waits for the end; the exit code, or 128 + signal.
    int end(int signal);
    int wait();

private:
    pid_t pid_ = -1;
};

/// dbus-daemon with a session-like policy: everybody may do everything.
class PrivateBus {
public:
    explicit PrivateBus(const std::string& folder);
    const std::string& address() const { return address_; }

private:
    std::string address_;
    Process process_;
};

/// virtbusd with all its folders below `folder`. The constructor returns when it has said READY.
class Daemon {
public:
    struct Options {
        std::string program;
        std::string mode = "--user";
        std::string bus_address;
        std::string folder;
        std::map<std::string, std::string> environment{};
    };
    explicit Daemon(Options options);
    pid_t pid() const { return process_.pid(); }
    int end(int signal) { return process_.end(signal); }

private:
    Process process_;
};

}  // namespace virtbus::bench
