// SPDX-License-Identifier: LGPL-2.1-or-later
#include "tests/bench/daemon.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "virtbus/fd.hpp"

extern char** environ;

namespace virtbus::bench {

namespace {

constexpr int ready_patience_ms = 60'000;

[[noreturn]] void fail(const std::string& what) {
    throw std::runtime_error{what + ": " + std::strerror(errno)};
}

std::string first_line(int fd) {
    std::string line;
    char byte = 0;
    pollfd wait{fd, POLLIN, 0};
    while (::poll(&wait, 1, ready_patience_ms) == 1 && ::read(fd, &byte, 1) == 1 && byte != '\n') line += byte;
    return line;
}

}  // namespace

Process::Process(std::vector<std::string> argv, std::map<std::string, std::string> environment, const std::string& log,
                 int ready_fd) {
    std::vector<char*> arguments, variables;
    for (auto& argument : argv) arguments.push_back(argument.data());
    arguments.push_back(nullptr);
    std::vector<std::string> texts;
    for (char** variable = environ; *variable; ++variable) {
        const std::string text{*variable};
        if (!environment.contains(text.substr(0, text.find('=')))) texts.push_back(text);
    }
    for (const auto& [name, value] : environment) texts.push_back(name + "=" + value);
    for (auto& text : texts) variables.push_back(text.data());
    variables.push_back(nullptr);

    const Fd output{::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
    pid_ = ::fork();
    if (pid_ < 0) fail("fork");
    if (pid_ == 0) {
        ::dup2(output.get(), 1);
        ::dup2(output.get(), 2);
        if (ready_fd >= 0) ::dup2(ready_fd, 3);
        ::execvpe(arguments[0], arguments.data(), variables.data());
        ::_exit(127);
    }
}

int Process::end(int signal) {
    if (pid_ <= 0) return 0;
    ::kill(pid_, signal);
    return wait();
}

int Process::wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

PrivateBus::PrivateBus(const std::string& folder) {
    const auto config = folder + "/bus.conf";
    std::ofstream{config} << "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN' "
                             "'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'>\n"
                             "<busconfig><type>system</type><listen>unix:path="
                          << folder
                          << "/bus</listen><auth>EXTERNAL</auth><policy context='default'><allow user='*'/>"
                             "<allow send_destination='*' eavesdrop='true'/><allow receive_sender='*'/><allow own='*'/>"
                             "</policy></busconfig>\n";
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
    const Fd read_end{ends[0]};
    {
        const Fd write_end{ends[1]};
        process_ = Process{{"dbus-daemon", "--config-file=" + config, "--nofork", "--nopidfile", "--print-address=3"},
                           {},
                           folder + "/bus.log",
                           write_end.get()};
    }
    address_ = first_line(read_end.get());
    if (address_.empty()) throw std::runtime_error{"dbus-daemon did not start; see " + folder + "/bus.log"};
    std::filesystem::permissions(folder + "/bus", std::filesystem::perms::all);
}

Daemon::Daemon(Options options) {
    const auto& folder = options.folder;
    const auto socket_path = folder + "/notify";
    ::unlink(socket_path.c_str());
    const Fd notify{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket_path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::bind(notify.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail(socket_path);

    auto environment = options.environment;
    environment["NOTIFY_SOCKET"] = socket_path;
    environment["DBUS_SESSION_BUS_ADDRESS"] = options.bus_address;
    environment["DBUS_SYSTEM_BUS_ADDRESS"] = options.bus_address;
    environment["CONFIGURATION_DIRECTORY"] = folder + "/config";
    environment["STATE_DIRECTORY"] = folder + "/state";
    environment["RUNTIME_DIRECTORY"] = folder + "/run";
    environment["CACHE_DIRECTORY"] = folder + "/cache";
    environment["LOGS_DIRECTORY"] = folder + "/log";
    process_ = Process{{options.program, options.mode}, environment, folder + "/virtbusd.log"};

    // READY comes as a datagram; a daemon that ends before is seen by its status.
    for (int waited = 0; waited < ready_patience_ms; waited += 100) {
        pollfd wait{notify.get(), POLLIN, 0};
        if (::poll(&wait, 1, 100) == 1) {
            char text[4096] = {};
            if (::recv(notify.get(), text, sizeof text - 1, 0) > 0 && std::strstr(text, "READY=1")) return;
        }
        siginfo_t ended{};
        if (::waitid(P_PID, static_cast<id_t>(process_.pid()), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            ended.si_pid)
            throw std::runtime_error{"virtbusd ended before it was ready; see " + folder + "/virtbusd.log"};
    }
    throw std::runtime_error{"virtbusd was not ready in time; see " + folder + "/virtbusd.log"};
}

}  // namespace virtbus::bench
