// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: network namespaces, so that no packet leaves the test. The test itself enters one, in which the daemon is
// the host; machines beside it have one each.
#pragma once

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/network_namespace.hpp"

namespace virtbus::tests {

/// A machine with a network of its own, which a cable (veth) connects with the test's.
class Place {
public:
    Place() {
        int ready[2];
        if (::pipe(ready) < 0) throw std::runtime_error{"no pipe"};
        pid_ = ::fork();
        if (pid_ == 0) {
            ::signal(SIGTERM, SIG_DFL);
            const bool made = ::unshare(CLONE_NEWNET) == 0;
            (void)!::write(ready[1], made ? "y" : "n", 1);
            for (;;) ::pause();
        }
        char made = 'n';
        (void)!::read(ready[0], &made, 1);
        ::close(ready[0]);
        ::close(ready[1]);
        if (made != 'y') throw std::runtime_error{"no network namespace"};
        in("ip link set lo up");
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    /// The kernel takes a namespace away when it likes; the next test wants the names of the cables at once.
    ~Place() {
        for (const auto& cable : cables_) succeeds("ip link del " + cable);
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }

    Said in(const std::string& command) const {
        return say("nsenter --net=/proc/" + std::to_string(pid_) + "/ns/net -- sh -c '" + command + "'");
    }
    /// `here` is the end in the test's network, on `bridge` if there is one; the other is eth0.
    void plug(const std::string& here, const std::string& bridge, const std::string& mac = "") const {
        cables_.push_back(here);
        const auto pid = std::to_string(pid_);
        auto said = say("ip link add " + here + " type veth peer name eth0 " + (mac.empty() ? "" : "address " + mac) +
                        " netns " + pid + " && ip link set " + here + " up" +
                        (bridge.empty() ? "" : " && ip link set " + here + " master " + bridge));
        if (!said.ok()) throw std::runtime_error{said.text};
        said = in("ip link set eth0 up");
        if (!said.ok()) throw std::runtime_error{said.text};
    }
    pid_t pid() const { return pid_; }

private:
    pid_t pid_ = -1;
    mutable std::vector<std::string> cables_;
};

}  // namespace virtbus::tests
