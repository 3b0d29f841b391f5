// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/host/folders.hpp"

#include <fmt/format.h>
#include <glib.h>

#include <cstdlib>
#include <fstream>

namespace virtbus::host {

namespace {

/// systemd separates several folders with colons; the first is ours.
std::string first_folder(const char* variable, const std::string& otherwise) {
    const char* value = std::getenv(variable);
    if (!value || !*value) return otherwise;
    const std::string folders{value};
    const auto folder = folders.substr(0, folders.find(':'));
    if (folder.empty() || folder.front() != '/')
        throw Error{Code::invalid_args, fmt::format("{}={} is not an absolute path", variable, value)};
    const auto last = folder.find_last_not_of('/');
    return last == std::string::npos ? "/" : folder.substr(0, last + 1);
}

std::string below(const char* folder, const char* name = "virtbus") {
    return fmt::format("{}/{}", folder, name);
}

}  // namespace

Folders find_folders(bool system_mode) {
    const auto defaults =
        system_mode
            ? Folders{"/etc/virtbus", "/var/lib/virtbus", "/run/virtbus", "/var/cache/virtbus", "/var/log/virtbus"}
            : Folders{below(g_get_user_config_dir()), below(g_get_user_state_dir()), below(g_get_user_runtime_dir()),
                      below(g_get_user_cache_dir()), below(g_get_user_state_dir(), "virtbus/log")};
    return {first_folder("CONFIGURATION_DIRECTORY", defaults.config), first_folder("STATE_DIRECTORY", defaults.state),
            first_folder("RUNTIME_DIRECTORY", defaults.runtime), first_folder("CACHE_DIRECTORY", defaults.cache),
            first_folder("LOGS_DIRECTORY", defaults.logs)};
}

std::string boot_id() {
    std::ifstream file{"/proc/sys/kernel/random/boot_id"};
    std::string id;
    if (!std::getline(file, id) || id.empty())
        throw Error{Code::internal, "cannot read the kernel's boot id from /proc"};
    return id;
}

}  // namespace virtbus::host
