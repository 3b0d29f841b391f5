// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: programs run beside the test and ended with it, and a dbus-daemon of the test's own that stands for the
// system bus.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/run.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::tests {

/// A program that says when it is ready by a first line on its standard output.
class Companion {
public:
    explicit Companion(std::vector<std::string> argv) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) < 0) throw std::runtime_error{"no pipe"};
        output_ = Fd{ends[0]};
        const Fd theirs{ends[1]};
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDOUT_FILENO);
        std::vector<char*> words;
        for (auto& word : argv) words.push_back(word.data());
        words.push_back(nullptr);
        const int error = ::posix_spawnp(&pid_, words[0], &actions, nullptr, words.data(), environ);
        posix_spawn_file_actions_destroy(&actions);
        if (error) throw std::runtime_error{"cannot run " + argv[0]};
    }
    Companion(const Companion&) = delete;
    Companion& operator=(const Companion&) = delete;
    ~Companion() { end(); }

    std::string read_line() {
        std::string line;
        for (char c = 0; ::read(output_.get(), &c, 1) == 1 && c != '\n';) line += c;
        return line;
    }
    void end() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGTERM);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }

private:
    pid_t pid_ = -1;
    Fd output_;
};

/// Sets DBUS_SYSTEM_BUS_ADDRESS for the whole process, so it must live before anything connects.
class PrivateBus {
public:
    PrivateBus() : daemon_{{"dbus-daemon", "--nofork", "--print-address=1", "--config-file=" + write_configuration()}} {
        ::setenv("DBUS_SYSTEM_BUS_ADDRESS", daemon_.read_line().c_str(), 1);
    }

private:
    std::string write_configuration() {
        const auto path = folder_ / "bus.conf";
        std::ofstream{path} << "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n"
                               " \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n"
                               "<busconfig><listen>unix:path="
                            << (folder_ / "bus")
                            << "</listen><auth>EXTERNAL</auth><policy context='default'><allow user='*'/>"
                               "<allow send_destination='*'/><allow receive_sender='*'/><allow own='*'/>"
                               "</policy></busconfig>\n";
        return path;
    }
    TemporaryFolder folder_;
    Companion daemon_;
};

}  // namespace virtbus::tests
