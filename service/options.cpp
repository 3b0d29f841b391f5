// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/options.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <utility>

namespace virtbus {

namespace {

constexpr std::chrono::seconds idle_when_started_on_demand{60};

constexpr const char* usage =
    "usage: virtbusd (--system | --user) [OPTION...]\n"
    "Runs virtual machines and offers them on D-Bus as org.virtbus1.\n\n"
    "  --system             for the host, on the system bus; asks polkit\n"
    "  --user               for one user, on the session bus\n"
    "  --idle-exit SECONDS  end after so long without work (0: never; default: 60 when\n"
    "                       started by systemd or the bus, else never)\n"
    "  --plain-guests       run guests as plain processes, not as systemd services\n"
    "  --debug              log more\n"
    "  --help, --version\n";

bool started_on_demand() {
    return std::getenv("NOTIFY_SOCKET") || std::getenv("DBUS_STARTER_BUS_TYPE");
}

/// Beside the daemon in a build tree, else where it is installed.
std::string find_launcher() {
    std::error_code error;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
    const auto beside = self.parent_path() / "systemd" / "virtbus-launch";
    return !error && std::filesystem::exists(beside, error) ? beside.string() : VIRTBUS_LIBEXECDIR "/virtbus-launch";
}

CommandLineResult wrong(const std::string& what) {
    fmt::print(stderr, "virtbusd: {}\n{}", what, usage);
    return {std::nullopt, 2};
}

}  // namespace

CommandLineResult parse_command_line(int argc, char** argv) {
    DaemonOptions options;
    options.launcher = find_launcher();
    if (started_on_demand()) options.idle_exit = idle_when_started_on_demand;
    bool mode_given = false;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word{argv[i]};
        if (word == "--system" || word == "--user") {
            options.system_mode = word == "--system";
            if (std::exchange(mode_given, true)) return wrong("--system and --user exclude each other and come once");
        } else if (word == "--plain-guests") {
            options.plain_guests = true;
        } else if (word == "--debug") {
            options.debug = true;
        } else if (word == "--idle-exit") {
            const std::string_view value{i + 1 < argc ? argv[++i] : ""};
            unsigned seconds = 0;
            const auto [end, fault] = std::from_chars(value.data(), value.data() + value.size(), seconds);
            if (value.empty() || fault != std::errc{} || end != value.data() + value.size() || seconds > 86400)
                return wrong(fmt::format("--idle-exit wants seconds from 0 to 86400, not '{}'", value));
            options.idle_exit = std::chrono::seconds{seconds};
        } else if (word == "--help") {
            fmt::print("{}", usage);
            return {};
        } else if (word == "--version") {
            fmt::print("virtbusd {}\n", VIRTBUS_VERSION);
            return {};
        } else {
            return wrong(fmt::format("unknown option '{}'", word));
        }
    }
    if (!mode_given) return wrong("one of --system and --user is needed");
    return {options, 0};
}

}  // namespace virtbus
