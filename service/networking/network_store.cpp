// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/networking/network_store.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <time.h>

#include "virtbus/error.hpp"

namespace virtbus {

namespace {

constexpr std::string_view suffix = ".xml", rejected = ".rejected";
constexpr std::size_t definition_limit = 16u << 20, state_limit = 64u << 20;

std::string without_suffix(std::string_view name) {
    return std::string{name.substr(0, name.size() - suffix.size())};
}

constexpr std::int64_t second = 1'000'000'000;

std::int64_t nanoseconds(const timespec& time) {
    return time.tv_sec * second + time.tv_nsec;
}

/// By the clocks as they are now, so a second counts for nothing.
bool written_since_boot(const std::string& path) {
    struct stat facts{};
    if (::lstat(path.c_str(), &facts) != 0) return false;
    timespec now{}, up{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    ::clock_gettime(CLOCK_BOOTTIME, &up);
    return nanoseconds(facts.st_mtim) + second >= nanoseconds(now) - nanoseconds(up);
}

}  // namespace

NetworkStore::NetworkStore(Files& files, Log& log, const Folders& folders, std::string boot_id)
    : files_{files},
      log_{log},
      definitions_{folders.config + "/networks"},
      autostart_{definitions_ + "/autostart"},
      runtime_{folders.runtime + "/network"},
      old_{folders.state + "/network"},
      mark_{folders.runtime + "/network-autostart-done"},
      boot_id_{std::move(boot_id)} {}

void NetworkStore::prepare() {
    for (const auto& folder : {definitions_, autostart_, runtime_}) files_.make_folder(folder, 0700);
}

// ---- definitions

std::vector<NetworkStore::DefinitionFile> NetworkStore::definitions() {
    std::vector<DefinitionFile> all;
    for (const auto& name : files_.list(definitions_)) {
        if (!name.ends_with(suffix)) continue;
        DefinitionFile file{definitions_ + '/' + name, without_suffix(name), {}, {}};
        try {
            if (auto text = files_.read(file.path, definition_limit)) file.text = std::move(*text);
        } catch (const Error& e) {
            file.problem = e.what();
        }
        all.push_back(std::move(file));
    }
    return all;
}

std::string NetworkStore::definition_path(const std::string& uuid) const {
    return fmt::format("{}/{}{}", definitions_, uuid, suffix);
}

Task<> NetworkStore::write_definition(std::string path, std::string text) {
    co_await files_.write(std::move(path), std::move(text), 0600);
}

Task<> NetworkStore::remove_definition(std::string uuid, std::string path) {
    co_await files_.remove(std::move(path));
    // A link that leads nowhere starts nothing, so it is no reason to say that the network is still there.
    try {
        co_await files_.remove(fmt::format("{}/{}{}", autostart_, uuid, suffix));
    } catch (const Error& e) {
        log_.warning(fmt::format("The autostart link of network {} stays behind: {}", uuid, e.what()));
    }
}

std::set<std::string> NetworkStore::autostarts() {
    std::set<std::string> uuids;
    for (const auto& name : files_.list(autostart_))
        if (name.ends_with(suffix) && files_.exists(autostart_ + '/' + name)) uuids.insert(without_suffix(name));
    return uuids;
}

Task<> NetworkStore::set_autostart(std::string uuid, std::string definition, bool on) {
    auto link = fmt::format("{}/{}{}", autostart_, uuid, suffix);
    if (on)
        co_await files_.link(std::move(definition), std::move(link));
    else
        co_await files_.remove(std::move(link));
}

bool NetworkStore::autostart_done() {
    const auto mark = files_.read(mark_, 4096);
    return mark && *mark == boot_id_;
}

void NetworkStore::mark_autostart_done() {
    files_.write_volatile(mark_, boot_id_, 0600);
}

// ---- live state

std::string NetworkStore::state_path(const std::string& name) const {
    return fmt::format("{}/{}{}", runtime_, name, suffix);
}

void NetworkStore::write_state(const std::string& name, std::string_view text) {
    files_.write_volatile(state_path(name), text, 0600);
}

void NetworkStore::remove_state(const std::string& name) {
    files_.remove_volatile(state_path(name));
}

std::vector<NetworkStore::StateFile> NetworkStore::states_in(const std::string& folder) {
    std::vector<StateFile> all;
    for (const auto& name : files_.list(folder)) {
        if (!name.ends_with(suffix)) continue;
        StateFile file{folder + '/' + name, without_suffix(name), {}, {}, written_since_boot(folder + '/' + name)};
        try {
            auto text = files_.read(file.path, state_limit);
            if (!text) continue;
            file.text = std::move(*text);
        } catch (const Error& e) {
            file.problem = e.what();
        }
        all.push_back(std::move(file));
    }
    return all;
}

std::vector<NetworkStore::StateFile> NetworkStore::states() {
    return states_in(runtime_);
}

std::vector<NetworkStore::StateFile> NetworkStore::old_states() {
    return states_in(old_);
}

Task<> NetworkStore::move_here(std::string old_path, std::string name, std::string text) {
    co_await files_.write(state_path(name), std::move(text), 0600);
    co_await files_.remove(std::move(old_path));
}

Task<> NetworkStore::remove_old(std::string path) {
    co_await files_.remove(std::move(path));
}

Task<> NetworkStore::reject(std::string path, std::string why) {
    auto aside = path + std::string{rejected};
    log_.error(fmt::format("The live state of a network in {} is not used: {}. It is kept as {}", path, why, aside));
    try {
        co_await files_.rename(path, aside);
    } catch (const Error& e) {
        log_.error(fmt::format("Setting {} aside failed: {}", path, e.what()));
    }
}

}  // namespace virtbus
