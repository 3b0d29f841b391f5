// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guests/settings.hpp"

#include <fmt/format.h>
#include <glib.h>

#include <cstdlib>
#include <memory>

#include "virtbus/error.hpp"

namespace virtbus::systemd {

namespace {

constexpr int longest_timeout = 24 * 60 * 60;

struct KeyFile {
    KeyFile() : file{g_key_file_new()} {}
    ~KeyFile() { g_key_file_unref(file); }
    KeyFile(const KeyFile&) = delete;
    KeyFile& operator=(const KeyFile&) = delete;

    std::string value(const std::string& group, const char* key) const {
        const std::unique_ptr<char, void (*)(void*)> text{g_key_file_get_value(file, group.c_str(), key, nullptr),
                                                          g_free};
        return text ? text.get() : std::string{};
    }
    GKeyFile* file;
};

OnStop to_on_stop(const std::string& word, const std::string& path, const std::string& group) {
    if (word == "shutdown") return OnStop::shutdown;
    if (word == "save") return OnStop::save;
    if (word == "stop") return OnStop::stop;
    throw Error{Code::invalid_option,
                fmt::format("{}: [{}] OnStop={} is none of shutdown, save and stop", path, group, word)};
}

std::chrono::seconds to_timeout(const std::string& word, const std::string& path) {
    char* end = nullptr;
    const auto seconds = std::strtol(word.c_str(), &end, 10);
    if (*end || seconds < 1 || seconds > longest_timeout)
        throw Error{Code::invalid_option, fmt::format("{}: TimeoutSec={} is not a number of seconds from 1 to {}", path,
                                                      word, longest_timeout)};
    return std::chrono::seconds{seconds};
}

}  // namespace

OnStop GuestSettings::for_domain(const std::string& name, const std::string& uuid) const {
    if (const auto found = domains.find(uuid); found != domains.end()) return found->second;
    if (const auto found = domains.find(name); found != domains.end()) return found->second;
    return on_stop;
}

GuestSettings load_guest_settings(const std::string& path) {
    GuestSettings settings;
    const KeyFile keys;
    GError* error = nullptr;
    if (!g_key_file_load_from_file(keys.file, path.c_str(), G_KEY_FILE_NONE, &error)) {
        const std::unique_ptr<GError, void (*)(GError*)> owned{error, g_error_free};
        if (g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT)) return settings;
        throw Error{Code::invalid_option, fmt::format("{}: {}", path, error->message)};
    }
    const std::unique_ptr<char*, void (*)(char**)> groups{g_key_file_get_groups(keys.file, nullptr), g_strfreev};
    for (auto* group = groups.get(); *group; ++group) {
        const std::string name{*group};
        const auto on_stop = keys.value(name, "OnStop");
        if (name == "Guests") {
            if (!on_stop.empty()) settings.on_stop = to_on_stop(on_stop, path, name);
            if (const auto text = keys.value(name, "TimeoutSec"); !text.empty())
                settings.timeout = to_timeout(text, path);
        } else if (name.starts_with("Domain ")) {
            if (!on_stop.empty()) settings.domains[name.substr(7)] = to_on_stop(on_stop, path, name);
        } else {
            throw Error{Code::invalid_option,
                        fmt::format("{}: there is no section [{}], only [Guests] and [Domain NAME]", path, name)};
        }
    }
    return settings;
}

}  // namespace virtbus::systemd
