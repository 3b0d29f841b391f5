// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: the real daemon on a bus of its own, in folders of its own, with clients of any user beside it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/bus_client.hpp"
#include "tests/support/private_bus.hpp"

namespace virtbus::tests {

/// A program that runs beside the test; ended and waited for at the latest when the object goes.
class Process {
public:
    Process(std::vector<std::string> argv, const std::vector<std::string>& more_environment, const std::string& output,
            const std::string& errors) {
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
        posix_spawn_file_actions_addopen(&actions, 2, errors.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
        std::vector<char*> words, variables;
        for (auto& word : argv) words.push_back(word.data());
        words.push_back(nullptr);
        auto environment = more_environment;
        for (char** one = environ; *one; one++) environment.emplace_back(*one);
        for (auto& one : environment) variables.push_back(one.data());
        variables.push_back(nullptr);
        const int error = ::posix_spawnp(&pid_, words[0], &actions, nullptr, words.data(), variables.data());
        posix_spawn_file_actions_destroy(&actions);
        if (error) throw std::runtime_error{"cannot run " + argv[0]};
    }
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process() { end(SIGTERM); }

    pid_t pid() const { return pid_; }
    /// Sends the signal and waits for the end: the exit code, or 128 + the signal that ended it.
    int end(int signal) {
        if (status_ < 0) ::kill(pid_, signal);
        return wait();
    }
    int wait() {
        if (status_ < 0) {
            int status = 0;
            while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
            }
            status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        return status_;
    }
    bool ended() {
        siginfo_t info{};
        return status_ >= 0 ||
               (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid);
    }

private:
    pid_t pid_ = -1;
    int status_ = -1;
};

inline std::string read_file(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream{path}.rdbuf();
    return text.str();
}

/// Folders that other users may pass through, for sockets.
class OpenFolder : public TemporaryFolder {
public:
    OpenFolder() { ::chmod(path().c_str(), 0711); }
};

/// A dbus-daemon of the test's own.
class PrivateDaemonBus {
public:
    PrivateDaemonBus() {
        std::ofstream{folder_ / "bus.conf"}
            << "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n"
               " \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig><listen>"
            << address() << "</listen><auth>EXTERNAL</auth><policy context='default'><allow user='*'/>"
            << "<allow send_destination='*' eavesdrop='false'/><allow receive_sender='*'/><allow own='*'/></policy>"
            << "<limit name='max_replies_per_connection'>50000</limit><limit "
               "name='max_connections_per_user'>1000</limit>"
            << "</busconfig>\n";
        daemon_ = std::make_unique<Companion>(std::vector<std::string>{
            "dbus-daemon", "--nofork", "--nopidfile", "--print-address=1", "--config-file=" + (folder_ / "bus.conf")});
        if (daemon_->read_line().empty()) throw std::runtime_error{"the bus did not start"};
    }
    std::string address() const { return "unix:path=" + (folder_ / "bus"); }

private:
    OpenFolder folder_;
    std::unique_ptr<Companion> daemon_;
};

inline constexpr uid_t stranger = 65534;  // nobody: a bus lets in only users it knows

class DaemonBed {
public:
    explicit DaemonBed(bool system_mode) : system_mode_{system_mode} {}
    ~DaemonBed() { stop(); }

    /// Returns when the name is owned; false when the daemon has ended instead.
    bool start(std::vector<std::string> more_arguments = {}) {
        std::vector<std::string> argv{VIRTBUSD, system_mode_ ? "--system" : "--user", "--plain-guests"};
        argv.insert(argv.end(), more_arguments.begin(), more_arguments.end());
        Client watcher{loop, bus.address(), "org.freedesktop.DBus"};
        const std::string path = "/org/freedesktop/DBus", name = "org.freedesktop.DBus";
        watcher.call(path, name, "AddMatch", "s", "type='signal',member='NameOwnerChanged',arg0='org.virtbus1'");
        daemon = std::make_unique<Process>(argv, environment(), log(), log());
        const auto tick = loop_tick();
        return loop.run_until([&] { return owned(watcher) || daemon->ended(); }, patience) && !daemon->ended();
    }
    /// A client that watches for the name has seen it owned.
    static bool owned(const Client& watcher) {
        return std::any_of(watcher.signals.begin(), watcher.signals.end(),
                           [](const auto& one) { return one.member == "NameOwnerChanged"; });
    }
    /// The exit code.
    int stop(int signal = SIGTERM) {
        if (!daemon) return 0;
        const int code = daemon->end(signal);
        daemon.reset();
        return code;
    }
    std::vector<std::string> environment() const {
        std::vector<std::string> variables{"DBUS_SYSTEM_BUS_ADDRESS=" + bus.address(),
                                           "DBUS_SESSION_BUS_ADDRESS=" + bus.address(), "NOTIFY_SOCKET="};
        for (const char* kind : {"CONFIGURATION", "STATE", "RUNTIME", "CACHE", "LOGS"})
            variables.push_back(std::string{kind} + "_DIRECTORY=" + (folder / kind));
        return variables;
    }
    std::string log() const { return folder / "log"; }
    std::string socket() const { return folder / "RUNTIME/bus"; }

    /// A caller with that user's rights; 0 is the user who runs the test.
    std::unique_ptr<Client> connect(uid_t uid = 0) { return connect_to(bus.address(), uid); }
    std::unique_ptr<Client> connect_to(const std::string& address, uid_t uid = 0) {
        // Who somebody is, is settled when the socket is connected.
        if (uid && ::seteuid(uid) < 0) throw std::runtime_error{"cannot become another user"};
        auto client = std::make_unique<Client>(loop, address, "org.virtbus1");
        if (uid && ::seteuid(0) < 0) std::abort();
        if (const auto answer = client->call("/org/freedesktop/DBus", "org.freedesktop.DBus.Peer", "Ping");
            !answer.ok())
            throw std::runtime_error{"not let in: " + answer.message};
        return client;
    }
    static bool can_be_others() { return ::geteuid() == 0; }

    host::MainLoop loop;
    PrivateDaemonBus bus;
    OpenFolder folder;
    std::unique_ptr<Process> daemon;

    /// For conditions that no event of this loop announces: they are looked at again and again while it lives.
    Registration loop_tick() {
        struct Tick final : Registered {
            explicit Tick(Loop& on) : loop{on} { again(); }
            void again() {
                timer = loop.after(Duration{2}, [this] { again(); });
            }
            Loop& loop;
            Registration timer;
        };
        return std::make_unique<Tick>(loop);
    }

private:
    bool system_mode_;
};

// ---- what the suites say again and again ----

inline constexpr const char* manager = "org.virtbus1.Manager";
inline constexpr const char* domain = "org.virtbus1.Domain";
inline constexpr const char* job = "org.virtbus1.Job";
inline constexpr const char* properties = "org.freedesktop.DBus.Properties";
inline const std::string root = "/org/virtbus1";
inline const std::string error_prefix = "org.virtbus1.Error.";

inline std::string test_xml(const std::string& name, const std::string& behaviour = "", const std::string& more = "") {
    const std::string metadata = behaviour.empty()
                                     ? ""
                                     : "<metadata><test:behaviour xmlns:test='http://virtbus.org/domain/test/1.0' " +
                                           behaviour + "/></metadata>";
    return "<domain type='test'><name>" + name + "</name>" + metadata +
           "<memory unit='KiB'>65536</memory><vcpu>1</vcpu>" + "<os><type>hvm</type></os>" + more + "</domain>";
}

/// The one string or path in an answer, or what went wrong.
inline std::string text_of(const Answer& answer) {
    return answer.ok() ? Client::text(answer) : answer.error + ": " + answer.message;
}

inline std::string define(Client& client, const std::string& name, const std::string& behaviour = "",
                          const std::string& more = "") {
    return text_of(client.call(root, manager, "DefineDomain", "sa{sv}", test_xml(name, behaviour, more).c_str(), 0));
}

/// A property as sd-bus prints it, without the variant around it.
inline std::string property(Client& client, const std::string& path, const char* interface, const char* name) {
    const Answer answer = client.call(path, properties, "Get", "ss", interface, name);
    if (!answer.ok()) return answer.error;
    char type = 0;
    const char* contents = nullptr;
    sd_bus_message_peek_type(answer.body.get(), &type, &contents);
    sd_bus_message_enter_container(answer.body.get(), 'v', contents);
    const std::string_view signature{contents};
    if (signature == "s" || signature == "o") {
        const char* text = "";
        sd_bus_message_read_basic(answer.body.get(), signature[0], &text);
        return text;
    }
    if (signature == "b" || signature == "u" || signature == "t") {
        std::uint64_t number = 0;
        sd_bus_message_read_basic(answer.body.get(), signature[0], &number);
        return std::to_string(signature == "t" ? number : number & 0xffffffff);
    }
    return Client::print(answer);
}

}  // namespace virtbus::tests
